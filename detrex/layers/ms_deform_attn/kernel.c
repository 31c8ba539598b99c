/* Multi-scale deformable attention on the CPU (Deformable DETR, Zhu et al. 2021, eq. 3).

   value (B, S, H, D), places (B, N, H, L, P, 2) as (x, y) in [0, 1], weights (B, N, H, L, P),
   out (B, N, H, D), shapes (L, 2) as (height, width); all contiguous. REAL, float or double, is
   chosen when this file is compiled. Plain C: it knows nothing of Python or of torch.

   A worker takes one head of one image at a time and copies its levels, one after the other, into
   a workspace, each inside a frame of zeros one pixel wide. So the pixels of a head are neighbours
   in memory (in value they are H * D apart, which defeats the caches), a place at the border needs
   no special case, and no two workers add to the same gradient. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct { int64_t batch, tokens, heads, dim, queries, levels, points, framed; } Sizes;
typedef struct { ptrdiff_t pixel, row; REAL left, right, upper, lower; } Corners;

/* Copies the pixels of a head between value and the inside of the frames. */
INLINE void move(REAL *framed, REAL *value, const int64_t *shapes, const Sizes *s, int into) {
    const size_t bytes = s->dim * sizeof(REAL);
    for (int64_t l = 0; l < s->levels; l++, shapes += 2) {
        framed += (shapes[1] + 3) * s->dim; /* the upper row of the frame and one pixel */
        for (int64_t y = 0; y < shapes[0]; y++, framed += 2 * s->dim)
            for (int64_t x = 0; x < shapes[1]; x++, framed += s->dim, value += s->heads * s->dim)
                into ? memcpy(framed, value, bytes) : memcpy(value, framed, bytes);
        framed += (shapes[1] + 1) * s->dim;
    }
}

static void frame(REAL *framed, const REAL *value, const int64_t *shapes, const Sizes *s) {
    memset(framed, 0, s->framed * s->dim * sizeof(REAL));
    move(framed, (REAL *)value, shapes, s, 1);
}

/* Where the four pixels around a place lie in a framed level, and the share of each side.
   Returns 0 if all four are outside. Pixel centres lie at (i + 0.5) / size. */
INLINE int surround(Corners *c, const REAL *place, const int64_t *shape, const int dim) {
    const REAL x = place[0] * shape[1] - (REAL)0.5, y = place[1] * shape[0] - (REAL)0.5;
    if (!(x > -1 && y > -1 && x < shape[1] && y < shape[0])) return 0; /* also where it is NaN */
    const REAL column = floor(x), row = floor(y);
    c->row = (shape[1] + 2) * dim;
    c->pixel = ((ptrdiff_t)row + 1) * c->row + ((ptrdiff_t)column + 1) * dim;
    c->right = x - column, c->left = 1 - c->right;
    c->lower = y - row, c->upper = 1 - c->lower;
    return 1;
}

INLINE void sample(const REAL *value, const int64_t *shapes, const REAL *place,
                   const REAL *weight, REAL *out, const Sizes *s, const int dim) {
    REAL sum[dim]; /* out itself could overlap value, for all the compiler knows */
    Corners c;
    for (int d = 0; d < dim; d++) sum[d] = 0;
    for (int64_t l = 0; l < s->levels; l++, shapes += 2) {
        for (int64_t p = 0; p < s->points; p++, place += 2, weight++) {
            if (!surround(&c, place, shapes, dim)) continue;
            const REAL *a = value + c.pixel, *b = a + c.row;
            const REAL up = *weight * c.upper, low = *weight * c.lower;
            const REAL a0 = up * c.left, a1 = up * c.right, b0 = low * c.left, b1 = low * c.right;
#pragma omp simd
            for (int d = 0; d < dim; d++)
                sum[d] += a0 * a[d] + a1 * a[d + dim] + b0 * b[d] + b1 * b[d + dim];
        }
        value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
    }
    memcpy(out, sum, dim * sizeof(REAL));
}

INLINE void sample_backward(const REAL *value, const int64_t *shapes, const REAL *place,
                            const REAL *weight, const REAL *grad, REAL *grad_value,
                            REAL *grad_place, REAL *grad_weight, const Sizes *s, const int dim) {
    Corners c;
    for (int64_t l = 0; l < s->levels; l++, shapes += 2) {
        for (int64_t p = 0; p < s->points; p++, place += 2, grad_place += 2) {
            const REAL w = *weight++;
            REAL a0 = 0, a1 = 0, b0 = 0, b1 = 0; /* grad . value at each corner */
            if (surround(&c, place, shapes, dim)) {
                const REAL *a = value + c.pixel, *b = a + c.row;
                REAL *ga = grad_value + c.pixel, *gb = ga + c.row;
                const REAL up = w * c.upper, low = w * c.lower;
#pragma omp simd reduction(+ : a0, a1, b0, b1)
                for (int d = 0; d < dim; d++) {
                    const REAL g = grad[d];
                    a0 += g * a[d], a1 += g * a[d + dim], b0 += g * b[d], b1 += g * b[d + dim];
                    ga[d] += up * c.left * g, ga[d + dim] += up * c.right * g;
                    gb[d] += low * c.left * g, gb[d + dim] += low * c.right * g;
                }
            } else {
                c = (Corners){0};
            }
            const REAL over = c.left * a0 + c.right * a1, under = c.left * b0 + c.right * b1;
            *grad_weight++ = c.upper * over + c.lower * under;
            grad_place[0] = w * shapes[1] * (c.upper * (a1 - a0) + c.lower * (b1 - b0));
            grad_place[1] = w * shapes[0] * (under - over);
        }
        value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
        grad_value += (shapes[0] + 2) * (shapes[1] + 2) * dim;
    }
}

/* The usual head sizes are constants, so that the loops over channels are unrolled. */
#define FOR_DIM(call)                                                    \
    switch (s->dim) {                                                    \
        case 16: call(16); break;                                        \
        case 32: call(32); break;                                        \
        case 64: call(64); break;                                        \
        default: call((int)s->dim);                                      \
    }

/* workspace (workers, framed * D). Queries are cut in parts where heads alone are too few. */
void attention_forward(const REAL *value, const int64_t *shapes, const REAL *places,
                       const REAL *weights, REAL *out, REAL *workspace, const Sizes *s,
                       int64_t parts, int64_t workers) {
    const int64_t samples = s->levels * s->points, jobs = s->batch * s->heads * parts;
#pragma omp parallel for num_threads(workers)
    for (int64_t worker = 0; worker < workers; worker++) {
        REAL *framed = workspace + worker * s->framed * s->dim;
        for (int64_t job = worker; job < jobs; job += workers) {
            const int64_t part = job % parts, h = job / parts % s->heads, b = job / parts / s->heads;
            const int64_t end = (part + 1) * s->queries / parts;
            frame(framed, value + (b * s->tokens * s->heads + h) * s->dim, shapes, s);
            for (int64_t q = part * s->queries / parts; q < end; q++) {
                const int64_t i = (b * s->queries + q) * s->heads + h, j = i * samples;
#define SAMPLE(dim) \
    sample(framed, shapes, places + 2 * j, weights + j, out + i * dim, s, dim)
                FOR_DIM(SAMPLE)
            }
        }
    }
}

/* workspace (workers, 2 * framed * D); every element of the gradients is written. */
void attention_backward(const REAL *value, const int64_t *shapes, const REAL *places,
                        const REAL *weights, const REAL *grad, REAL *grad_value,
                        REAL *grad_places, REAL *grad_weights, REAL *workspace, const Sizes *s,
                        int64_t workers) {
    const int64_t samples = s->levels * s->points, size = s->framed * s->dim;
#pragma omp parallel for num_threads(workers)
    for (int64_t worker = 0; worker < workers; worker++) {
        REAL *framed = workspace + worker * 2 * size, *grad_framed = framed + size;
        for (int64_t job = worker; job < s->batch * s->heads; job += workers) {
            const int64_t h = job % s->heads, b = job / s->heads;
            const ptrdiff_t first = (b * s->tokens * s->heads + h) * s->dim;
            frame(framed, value + first, shapes, s);
            memset(grad_framed, 0, size * sizeof(REAL));
            for (int64_t q = 0; q < s->queries; q++) {
                const int64_t i = (b * s->queries + q) * s->heads + h, j = i * samples;
#define SAMPLE_BACKWARD(dim)                                                                 \
    sample_backward(framed, shapes, places + 2 * j, weights + j, grad + i * dim, grad_framed, \
                    grad_places + 2 * j, grad_weights + j, s, dim)
                FOR_DIM(SAMPLE_BACKWARD)
            }
            move(grad_framed, grad_value + first, shapes, s, 0);
        }
    }
}
