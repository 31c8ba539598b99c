/* L1 distance, GIoU and IoU of every predicted box and every target, weighted and summed in one
   pass; boxes are (centre x, centre y, width, height). Plain C, vectorised over the queries. */
#include <stdint.h>

enum { CHUNK = 256 }; /* queries whose corners are kept at hand for all targets */

typedef struct { float centre[2][CHUNK], size[2][CHUNK], low[2][CHUNK], high[2][CHUNK]; } Boxes;

static inline float smaller(float a, float b) { return a < b ? a : b; }
static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float distance(float a, float b) { return larger(a - b, b - a); }

static void load(Boxes *b, const float *boxes, int count) {
    for (int axis = 0; axis < 2; axis++)
        for (int n = 0; n < count; n++) {
            const float centre = boxes[4 * n + axis], size = boxes[4 * n + 2 + axis];
            b->centre[axis][n] = centre, b->size[axis][n] = size;
            b->low[axis][n] = centre - size / 2, b->high[axis][n] = centre + size / 2;
        }
}

static void pairs(const Boxes *b, const Boxes *t, int g, float *restrict out, int count,
                  float l1, float giou, float iou) {
    const float eps = 1e-6f; /* as detrex.layers.box_ops */
    float cost[CHUNK];
#pragma omp simd
    for (int n = 0; n < CHUNK; n++) {
        float inter = 1, hull = 1, area = 1, other = 1, apart = 0;
        for (int a = 0; a < 2; a++) {
            const float low = b->low[a][n], high = b->high[a][n];
            const float its_low = t->low[a][g], its_high = t->high[a][g];
            inter *= larger(smaller(high, its_high) - larger(low, its_low), 0);
            hull *= larger(larger(high, its_high) - smaller(low, its_low), 0);
            area *= high - low, other *= its_high - its_low;
            apart += distance(b->centre[a][n], t->centre[a][g]);
            apart += distance(b->size[a][n], t->size[a][g]);
        }
        const float both = area + other - inter, share = inter / (both + eps);
        cost[n] = l1 * apart + giou * (share - (hull - both) / (hull + eps)) + iou * share;
    }
    for (int n = 0; n < count; n++) out[n] = cost[n];
}

/* boxes: N of a layer are contiguous, layers are `stride` floats apart; gt (G, 4);
   out (L, G, N); sizes: L, N, G. */
void pair_costs(const float *boxes, int64_t stride, const float *gt, float *out,
                const int64_t *sizes, float l1, float giou, float iou, int64_t threads) {
    const int64_t layers = sizes[0], queries = sizes[1], targets = sizes[2];
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t l = 0; l < layers; l++)
        for (int64_t first = 0; first < queries; first += CHUNK) {
            const int count = (int)(queries - first < CHUNK ? queries - first : CHUNK);
            Boxes mine = {0}, theirs;
            load(&mine, boxes + l * stride + 4 * first, count);
            for (int64_t g = 0; g < targets; g++) {
                const int at = (int)(g % CHUNK);
                if (!at) load(&theirs, gt + 4 * g, (int)(targets - g < CHUNK ? targets - g : CHUNK));
                pairs(&mine, &theirs, at, out + (l * targets + g) * queries + first, count,
                      l1, giou, iou);
            }
        }
}
