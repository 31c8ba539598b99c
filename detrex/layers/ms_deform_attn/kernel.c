/* Multi-scale deformable attention on the CPU (Deformable DETR, Zhu et al. 2021, eq. 3).

   value (B, S, H, D), offsets (B, N, H, L, P, 2) as (x, y), logits (B, N, H, L, P), reference
   (B, N, L, box), mask (B, S), out (B, N, H, D), shapes (L, 2) as (height, width); all contiguous.
   box = 2: offsets are pixels around a point. box = 4: half box sizes / P around the centre of a
   box cxcywh. Both in [0, 1]; softmax turns the logits into weights. box = 0: no reference, the
   offsets are places in [0, 1] and the logits are the weights.
   REAL, float or double, is what is computed in; with -DBFLOAT16 every Input is stored in 16 bits.
   Plain C: it knows nothing of Python or of torch.

   A worker takes one head of one image at a time and copies its levels, one after the other, into
   a workspace, each inside a frame of zeros one pixel wide. So the pixels of a head are neighbours
   in memory (in value they are H * D apart, which defeats the caches), a place at the border needs
   no special case, and no two workers add to the same gradient: results do not depend on the
   number of workers. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

#define INLINE static inline __attribute__((always_inline))

#ifdef BFLOAT16
typedef uint16_t Input; /* the upper half of a float */

INLINE REAL load(Input x) {
    const uint32_t bits = (uint32_t)x << 16;
    float real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

INLINE Input store(REAL x) {
    const float real = x;
    uint32_t bits;
    memcpy(&bits, &real, sizeof bits);
    return x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0; /* to nearest even; NaN */
}
#else
typedef REAL Input;
INLINE REAL load(Input x) { return x; }
INLINE Input store(REAL x) { return x; }
#endif

typedef struct { int64_t batch, tokens, heads, dim, queries, levels, points, box, framed; } Sizes;
typedef struct { /* reference and mask are NULL where there is none */
    const Input *value, *offsets, *logits;
    const REAL *reference;
    const uint8_t *mask;
} Inputs;
typedef struct { /* reference: one share per head, (B, N, H, L, box), or NULL */
    Input *value, *offsets, *logits;
    REAL *reference;
} Gradients;
typedef struct { REAL x, y, columns, rows, right, down; } Origin;
typedef struct { ptrdiff_t pixel, row; REAL left, right, upper, lower; } Corners;
typedef struct { REAL x, y, weight; } Slope;

/* The pixels of a head into the frames; padding stays zero. */
INLINE void frame(REAL *framed, const Input *value, const uint8_t *mask, const int64_t *shapes,
                  const Sizes *s, const int dim) {
    memset(framed, 0, s->framed * dim * sizeof(REAL));
    for (int64_t l = 0; l < s->levels; l++, shapes += 2) {
        framed += (shapes[1] + 3) * dim; /* the upper row of the frame and one pixel */
        for (int64_t y = 0; y < shapes[0]; y++, framed += 2 * dim)
            for (int64_t x = 0; x < shapes[1]; x++, framed += dim, value += s->heads * dim)
                if (!(mask && *mask++))
                    for (int d = 0; d < dim; d++) framed[d] = load(value[d]);
        framed += (shapes[1] + 1) * dim;
    }
}

/* And back: the gradient of padding is zero. */
INLINE void unframe(const REAL *framed, Input *value, const uint8_t *mask, const int64_t *shapes,
                    const Sizes *s, const int dim) {
    for (int64_t l = 0; l < s->levels; l++, shapes += 2) {
        framed += (shapes[1] + 3) * dim;
        for (int64_t y = 0; y < shapes[0]; y++, framed += 2 * dim)
            for (int64_t x = 0; x < shapes[1]; x++, framed += dim, value += s->heads * dim) {
                const int padding = mask && *mask++;
                for (int d = 0; d < dim; d++) value[d] = store(padding ? 0 : framed[d]);
            }
        framed += (shapes[1] + 1) * dim;
    }
}

/* Softmax of a query's logits, or the weights themselves. */
INLINE void weigh(REAL *weights, const Input *logits, const Sizes *s) {
    const int64_t samples = s->levels * s->points;
    REAL most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < samples; i++) weights[i] = load(logits[i]);
    if (!s->box) return;
    for (int64_t i = 0; i < samples; i++) most = weights[i] > most ? weights[i] : most;
    for (int64_t i = 0; i < samples; i++) sum += weights[i] = exp(weights[i] - most);
    sum = 1 / sum;
#pragma omp simd
    for (int64_t i = 0; i < samples; i++) weights[i] *= sum;
}

/* The place, in [0, 1], of an offset is x + offset / columns * right, and so for y. */
INLINE Origin origin(const REAL *reference, const int64_t *shape, const Sizes *s) {
    const REAL points = s->points, half = 0.5;
    if (s->box == 0) return (Origin){0, 0, 1, 1, 1, 1};
    if (s->box == 2) return (Origin){reference[0], reference[1], shape[1], shape[0], 1, 1};
    return (Origin){reference[0], reference[1], points, points,
                    half * reference[2], half * reference[3]};
}

/* The pixel coordinate of a place. Pixel centres lie at (i + 0.5) / size. Offsets start as whole
   pixels, where the slope of a bilinear sample jumps and rounding decides the side: so the order
   of grid_sample is kept, with the multiply-add that compilers make of it here as there. */
INLINE REAL pixel(const REAL place, const int64_t side) {
    return (2 * place - 1 + 1) * ((REAL)side / 2) - (REAL)0.5;
}

/* Where the four pixels around a place lie in a framed level, and the share of each side.
   Returns 0 if all four are outside. */
INLINE int surround(Corners *c, const Origin *o, const Input *offset, const int64_t *shape,
                    const int dim) {
    const REAL x = pixel(o->x + load(offset[0]) / o->columns * o->right, shape[1]);
    const REAL y = pixel(o->y + load(offset[1]) / o->rows * o->down, shape[0]);
    if (!(x >= -1 && y >= -1 && x < shape[1] && y < shape[0])) return 0; /* also where it is NaN */
    const REAL column = floor(x), row = floor(y);
    c->row = (shape[1] + 2) * dim;
    c->pixel = ((ptrdiff_t)row + 1) * c->row + ((ptrdiff_t)column + 1) * dim;
    c->right = x - column, c->left = 1 - c->right;
    c->lower = y - row, c->upper = 1 - c->lower;
    return 1;
}

INLINE void sample(const REAL *value, const int64_t *shapes, const Sizes *s, const REAL *reference,
                   const Input *offset, const Input *logits, Input *out, const int dim) {
    REAL sum[dim], weights[s->levels * s->points], *weight = weights;
    Corners c;
    weigh(weights, logits, s);
    for (int d = 0; d < dim; d++) sum[d] = 0;
    for (int64_t l = 0; l < s->levels; l++, shapes += 2, reference += s->box) {
        const Origin o = origin(reference, shapes, s);
        for (int64_t p = 0; p < s->points; p++, offset += 2, weight++) {
            if (!surround(&c, &o, offset, shapes, dim)) continue;
            const REAL *a = value + c.pixel, *b = a + c.row;
            const REAL up = *weight * c.upper, low = *weight * c.lower;
            const REAL a0 = up * c.left, a1 = up * c.right, b0 = low * c.left, b1 = low * c.right;
#pragma omp simd
            for (int d = 0; d < dim; d++)
                sum[d] += a0 * a[d] + a1 * a[d + dim] + b0 * b[d] + b1 * b[d + dim];
        }
        value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
    }
    for (int d = 0; d < dim; d++) out[d] = store(sum[d]);
}

/* Adds to the gradients of a sample's four pixels. Returns the gradient of its place (in pixels,
   not yet times the weight) and of its weight. */
INLINE Slope slope(const REAL *a, REAL *ga, const REAL *grad, const Corners *c, const REAL weight,
                   const int dim) {
    const REAL *b = a + c->row;
    REAL *gb = ga + c->row, a0 = 0, a1 = 0, b0 = 0, b1 = 0; /* grad . value at each corner */
    const REAL up = weight * c->upper, low = weight * c->lower;
#pragma omp simd reduction(+ : a0, a1, b0, b1)
    for (int d = 0; d < dim; d++) {
        const REAL g = grad[d];
        a0 += g * a[d], a1 += g * a[d + dim], b0 += g * b[d], b1 += g * b[d + dim];
        ga[d] += up * c->left * g, ga[d + dim] += up * c->right * g;
        gb[d] += low * c->left * g, gb[d + dim] += low * c->right * g;
    }
    const REAL over = c->left * a0 + c->right * a1, under = c->left * b0 + c->right * b1;
    return (Slope){c->upper * (a1 - a0) + c->lower * (b1 - b0), under - over,
                   c->upper * over + c->lower * under};
}

INLINE void sample_backward(const REAL *value, const int64_t *shapes, const Sizes *s,
                            const REAL *reference, const Input *offset, const Input *logits,
                            const Input *grad_out, REAL *grad_value, Input *grad_offset,
                            Input *grad_logits, REAL *grad_reference, const int dim) {
    const int64_t samples = s->levels * s->points;
    REAL grad[dim], weights[samples], grad_weights[samples], mean = 0;
    Corners c;
    weigh(weights, logits, s);
    for (int d = 0; d < dim; d++) grad[d] = load(grad_out[d]);
    for (int64_t l = 0, i = 0; l < s->levels; l++, shapes += 2, reference += s->box) {
        const Origin o = origin(reference, shapes, s);
        const REAL right = o.right / o.columns, down = o.down / o.rows;
        REAL centre[2] = {0, 0}, size[2] = {0, 0};
        for (int64_t p = 0; p < s->points; p++, i++, offset += 2, grad_offset += 2) {
            Slope g = {0, 0, 0};
            if (surround(&c, &o, offset, shapes, dim)) {
                g = slope(value + c.pixel, grad_value + c.pixel, grad, &c, weights[i], dim);
                g.x *= weights[i] * shapes[1], g.y *= weights[i] * shapes[0];
                centre[0] += g.x, size[0] += g.x * load(offset[0]);
                centre[1] += g.y, size[1] += g.y * load(offset[1]);
            }
            grad_offset[0] = store(right * g.x), grad_offset[1] = store(down * g.y);
            grad_weights[i] = g.weight;
            mean += weights[i] * g.weight;
        }
        for (int64_t k = 0; grad_reference && k < s->box; k++)
            *grad_reference++ = k < 2 ? centre[k] : size[k - 2] * (REAL)0.5 / s->points;
        value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
        grad_value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
    }
    for (int64_t i = 0; i < samples; i++) /* the gradient of softmax */
        grad_logits[i] = store(s->box ? weights[i] * (grad_weights[i] - mean) : grad_weights[i]);
}

INLINE void forward_head(const Inputs *in, const int64_t *shapes, const Sizes *s, Input *out,
                         REAL *framed, int64_t b, int64_t h, int64_t first, int64_t end,
                         const int dim) {
    const int64_t samples = s->levels * s->points, tokens = b * s->tokens;
    frame(framed, in->value + (tokens * s->heads + h) * dim, in->mask ? in->mask + tokens : NULL,
          shapes, s, dim);
    for (int64_t q = b * s->queries + first; q < b * s->queries + end; q++) {
        const int64_t i = q * s->heads + h, j = i * samples;
        sample(framed, shapes, s, in->reference + q * s->levels * s->box, in->offsets + 2 * j,
               in->logits + j, out + i * dim, dim);
    }
}

INLINE void backward_head(const Inputs *in, const int64_t *shapes, const Sizes *s,
                          const Input *grad, const Gradients *to, REAL *framed, int64_t b,
                          int64_t h, const int dim) {
    const int64_t samples = s->levels * s->points, boxes = s->levels * s->box;
    const int64_t tokens = b * s->tokens, pixel = (tokens * s->heads + h) * dim;
    const uint8_t *mask = in->mask ? in->mask + tokens : NULL;
    REAL *grad_framed = framed + s->framed * dim;
    frame(framed, in->value + pixel, mask, shapes, s, dim);
    memset(grad_framed, 0, s->framed * dim * sizeof(REAL));
    for (int64_t q = b * s->queries; q < (b + 1) * s->queries; q++) {
        const int64_t i = q * s->heads + h, j = i * samples;
        sample_backward(framed, shapes, s, in->reference + q * boxes, in->offsets + 2 * j,
                        in->logits + j, grad + i * dim, grad_framed, to->offsets + 2 * j,
                        to->logits + j, to->reference ? to->reference + i * boxes : NULL, dim);
    }
    unframe(grad_framed, to->value + pixel, mask, shapes, s, dim);
}

/* The usual head sizes are constants, so that the loops over channels are unrolled. */
#define FOR_DIM(call)                  \
    switch (s->dim) {                  \
        case 16: call(16); break;      \
        case 32: call(32); break;      \
        case 64: call(64); break;      \
        default: call((int)s->dim);    \
    }

/* workspace (workers, framed * D). Queries are cut in parts where heads alone are too few. */
void attention_forward(const Inputs *in, const int64_t *shapes, const Sizes *s, Input *out,
                       REAL *workspace, int64_t parts, int64_t workers) {
    const int64_t jobs = s->batch * s->heads * parts;
#pragma omp parallel for num_threads(workers)
    for (int64_t worker = 0; worker < workers; worker++) {
        for (int64_t job = worker; job < jobs; job += workers) {
            const int64_t part = job % parts, h = job / parts % s->heads, b = job / parts / s->heads;
            const int64_t first = part * s->queries / parts, end = (part + 1) * s->queries / parts;
#define FORWARD(dim) \
    forward_head(in, shapes, s, out, workspace + worker * s->framed * dim, b, h, first, end, dim)
            FOR_DIM(FORWARD)
        }
    }
}

/* workspace (workers, 2 * framed * D); every element of the gradients is written. */
void attention_backward(const Inputs *in, const int64_t *shapes, const Sizes *s, const Input *grad,
                        const Gradients *to, REAL *workspace, int64_t workers) {
#pragma omp parallel for num_threads(workers)
    for (int64_t worker = 0; worker < workers; worker++) {
        for (int64_t job = worker; job < s->batch * s->heads; job += workers) {
            const int64_t h = job % s->heads, b = job / s->heads;
#define BACKWARD(dim) \
    backward_head(in, shapes, s, grad, to, workspace + worker * 2 * s->framed * dim, b, h, dim)
            FOR_DIM(BACKWARD)
        }
    }
}
