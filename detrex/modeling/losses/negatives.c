/* Focal loss (gamma 2) of logits that belong to no target, p^2 softplus(x) with p the sigmoid of x,
   and its derivative. One pass over the logits, vectorised; nothing is kept for the backward pass.

   A row is one image of one layer: `size` contiguous logits. strides: of layers, of images. */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { CHUNK = 512 }; /* logits summed in float; the sum of chunks is double */

#define INLINE static inline __attribute__((always_inline))

typedef struct { float p, softplus; } Score;

typedef union { float value; int32_t bits; } Word;

/* exp(-|x|): 2^-n times a polynomial on [-ln(2) / 2, ln(2) / 2]. Beyond 87, where it is below the
   smallest normal number, and for NaN it is exp(-87); compared as integers, which vectorises. */
INLINE float decay(float x) {
    Word a = {x}, power;
    const Word limit = {87};
    a.bits &= 0x7fffffff;
    a.bits = a.bits < limit.bits ? a.bits : limit.bits;
    const int n = (int)(a.value * 1.44269504f + 0.5f);
    const float r = (n * 0.693359375f - a.value) + n * -2.12194440e-4f; /* ln(2) in two parts */
    float y = 1 / 5040.f;
    y = y * r + 1 / 720.f, y = y * r + 1 / 120.f, y = y * r + 1 / 24.f;
    y = y * r + 1 / 6.f, y = y * r + 0.5f, y = y * r + 1, y = y * r + 1;
    power.bits = (127 - n) << 23;
    return y * power.value;
}

INLINE Score score(float x) {
    const float e = decay(x), p = 1 / (1 + e);
    /* log(1 + e) = 2 artanh(e / (2 + e)), without loss of digits for small e */
    const float s = e / (2 + e), t = s * s;
    float y = 1 / 13.f;
    y = y * t + 1 / 11.f, y = y * t + 1 / 9.f, y = y * t + 1 / 7.f, y = y * t + 1 / 5.f;
    y = y * t + 1 / 3.f, y = y * t + 1;
    const Score found = {x < 0 ? e * p : p, (x + fabsf(x)) / 2 + 2 * s * y}; /* keeps NaN */
    return found;
}

void negative_sums(const float *logits, const int64_t *strides, double *sums, int64_t layers,
                   int64_t images, int64_t size, int64_t threads) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t l = 0; l < layers; l++)
        for (int64_t b = 0; b < images; b++) {
            const float *row = logits + l * strides[0] + b * strides[1];
            double total = 0;
            for (int64_t first = 0; first < size; first += CHUNK) {
                const int64_t end = first + CHUNK < size ? first + CHUNK : size;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = first; i < end; i++) {
                    const Score s = score(row[i]);
                    sum += s.p * s.p * s.softplus;
                }
                total += sum;
            }
            sums[l * images + b] = total;
        }
}

/* slopes (layers, images, size) = factor (layers) times the derivative. */
void negative_slopes(const float *logits, const int64_t *strides, const float *factor,
                     float *slopes, int64_t layers, int64_t images, int64_t size,
                     int64_t threads) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t l = 0; l < layers; l++)
        for (int64_t b = 0; b < images; b++) {
            const float *row = logits + l * strides[0] + b * strides[1];
            float *out = slopes + (l * images + b) * size;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) {
                const Score s = score(row[i]);
                out[i] = factor[l] * s.p * s.p * (2 * (1 - s.p) * s.softplus + s.p);
            }
        }
}
