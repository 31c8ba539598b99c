/* Assignment with capacities: every target takes `capacity` queries, every query at most one target,
   at the least total cost. Shortest augmenting paths (Jonker and Volgenant 1987) on the
   transportation problem: a target is one node however many queries it takes, and has one dual.

   cost (G, N) is float32, sums are double; G * capacity <= N. Indices: i, r targets, j queries.
   dual[i] is the price of one more query for target i: a free query costs it at least that much,
   and query j of target r has the price cost[r][j] - dual[r] <= 0. So the reduced cost of moving
   query j from r to i is cost[i][j] - cost[r][j] + dual[r] - dual[i] >= 0. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32, SPARE = 1 }; /* queries looked at together; candidates beyond the capacity */

typedef struct {
    const float *cost;
    int queries, targets, capacity, length;
    double *dual, *distance;     /* (G) */
    float *taken;                /* (N) 0, or infinity: has a target */
    float *paid;                 /* (G, capacity) costs of own */
    float *low, *bound;          /* least cost of each block; the least of these, (length) */
    int *owner;                  /* (N) */
    int *own, *held;             /* (G, capacity) queries of a target, and how many these are */
    int *list, *next, *count;    /* (G, length) cheapest free queries; some may be taken by now */
    int *parent, *through, *done; /* (G) the path: from which target, through which own query */
    char *edge;                  /* (G + 1, G + 1) */
} State;

/* Puts a value into its place of a sorted list of constant length, whose last one drops out. */
static void insert(float *sorted, int length, float value) {
    int at = length - 1;
    for (; at > 0 && value < sorted[at - 1]; at--) sorted[at] = sorted[at - 1];
    sorted[at] = value;
}

static inline float least(const float *restrict cost, const float *restrict taken, int n) {
    float low = INFINITY;
#pragma omp simd reduction(min : low)
    for (int j = 0; j < n; j++) {
        const float value = cost[j] + taken[j];
        low = value < low ? value : low;
    }
    return low;
}

/* A cost under which the `most` cheapest free queries lie, and the least one of each block. */
static float limit_of(const State *s, const float *cost, int most) {
    const int whole = s->queries / BLOCK, left = s->queries % BLOCK;
    const float *taken = s->taken;
    float *low = s->low, *bound = s->bound;
    for (int i = 0; i < most; i++) bound[i] = INFINITY;
    for (int b = 0; b < whole; b++) low[b] = least(cost + b * BLOCK, taken + b * BLOCK, BLOCK);
    low[whole] = least(cost + whole * BLOCK, taken + whole * BLOCK, left);
    for (int b = 0; b <= whole; b++)
        if (low[b] < bound[most - 1]) insert(bound, most, low[b]);
    return nextafterf(bound[most - 1], INFINITY); /* so many blocks have one as cheap */
}

/* The cheapest free queries, at most `most`, in order. A cost that is NaN is never chosen. */
static int cheapest(const State *s, const float *cost, int most, int *found) {
    int count = 0;
    float limit = limit_of(s, cost, most);
    for (int first = 0, block = 0; first < s->queries; first += BLOCK, block++) {
        if (!(s->low[block] < limit)) continue;
        const int end = first + BLOCK < s->queries ? first + BLOCK : s->queries;
        for (int j = first; j < end; j++) {
            if (!(cost[j] + s->taken[j] < limit)) continue;
            int at = count < most ? count++ : most - 1;
            for (; at > 0 && cost[j] < cost[found[at - 1]]; at--) found[at] = found[at - 1];
            found[at] = j;
            if (count == most) limit = cost[found[most - 1]];
        }
    }
    return count;
}

/* The cheapest free query of target i, -1 if there is none. */
static int free_query(State *s, int i) {
    int *list = s->list + (size_t)i * s->length;
    for (;;) {
        for (; s->next[i] < s->count[i]; s->next[i]++)
            if (s->taken[list[s->next[i]]] == 0) return list[s->next[i]];
        const float *row = s->cost + (size_t)i * s->queries;
        s->count[i] = cheapest(s, row, s->length, list);
        s->next[i] = 0;
        if (!s->count[i]) return -1;
    }
}

static void take(State *s, int i, int which, int j) {
    s->own[i * s->capacity + which] = j;
    s->paid[i * s->capacity + which] = s->cost[(size_t)i * s->queries + j];
}

/* Every target claims the `capacity` queries that are cheaper than its next one, which sets its
   dual; a query goes to the target that it saves most. Returns 0 if a cost is not finite. */
static int claim(State *s) {
    for (int i = 0; i < s->targets; i++) {
        const float *row = s->cost + (size_t)i * s->queries;
        int *list = s->list + (size_t)i * s->length;
        s->count[i] = cheapest(s, row, s->length, list);
        const int last = s->count[i] > s->capacity ? s->capacity : s->count[i] - 1;
        if (s->count[i] < s->capacity || !isfinite(row[list[0]])) return 0;
        s->dual[i] = row[list[last]];
        for (int c = 0; c < last; c++) {
            const int j = list[c], rival = s->owner[j];
            const double saved = s->dual[i] - row[j];
            if (saved > 0 && (rival < 0 || saved > s->dual[rival] -
                              s->cost[(size_t)rival * s->queries + j])) s->owner[j] = i;
        }
    }
    for (int j = 0; j < s->queries; j++) {
        const int i = s->owner[j];
        if (i < 0) continue;
        take(s, i, s->held[i]++, j);
        s->taken[j] = INFINITY;
    }
    return 1;
}

/* Reduced cost at which target i takes a query from target r, and which of its queries. */
static double step(const State *s, int i, int r, int *which) {
    const float *mine = s->cost + (size_t)i * s->queries, *its = s->paid + r * s->capacity;
    const int *own = s->own + r * s->capacity;
    double least = INFINITY;
    for (int c = 0; c < s->held[r]; c++) {
        const double change = (double)mine[own[c]] - its[c];
        if (change < least) least = change, *which = c;
    }
    return least + s->dual[r] - s->dual[i];
}

/* Distances over targets until no target is nearer than a free query; the last target, or -1. */
static int search(State *s, int start, double *best) {
    int last = -1;
    *best = INFINITY;
    for (int i = 0; i < s->targets; i++) s->distance[i] = INFINITY, s->done[i] = 0;
    s->distance[start] = 0;
    for (;;) {
        int i = -1;
        for (int r = 0; r < s->targets; r++)
            if (!s->done[r] && s->distance[r] < (i < 0 ? *best : s->distance[i])) i = r;
        if (i < 0) return last;
        s->done[i] = 1;
        const int j = free_query(s, i);
        const double end = j < 0 ? INFINITY : s->distance[i] +
                           s->cost[(size_t)i * s->queries + j] - s->dual[i];
        if (end < *best) *best = end, last = i;
        for (int r = 0; r < s->targets; r++) {
            int which = 0;
            if (s->done[r]) continue;
            const double reached = s->distance[i] + fmax(step(s, i, r, &which), 0);
            if (reached < s->distance[r])
                s->distance[r] = reached, s->parent[r] = i, s->through[r] = which;
        }
    }
}

/* One more query for target `start`: the last target of the path takes a free one, and each hands
   one of its own to the target before it. */
static int augment(State *s, int start) {
    double best;
    int i = search(s, start, &best);
    if (i < 0) return 0;
    for (int r = 0; r < s->targets; r++)
        if (s->done[r] && s->distance[r] < best) s->dual[r] += best - s->distance[r];
    int j = free_query(s, i);
    s->taken[j] = INFINITY;
    for (; i != start; i = s->parent[i]) {
        const int handed = s->own[i * s->capacity + s->through[i]];
        take(s, i, s->through[i], j);
        j = handed;
    }
    take(s, start, s->held[start]++, j);
    return 1;
}

/* Whether another assignment costs the same: a cycle of moves that cost nothing. Node G stands for
   all free queries. The tolerance covers rounding of the duals; float32 costs are far coarser. */
static int tied(State *s) {
    const int g = s->targets, nodes = g + 1;
    double scale = 0;
    for (int i = 0; i < g; i++) {
        scale = fmax(scale, fabs(s->dual[i]));
        for (int c = 0; c < s->capacity; c++)
            scale = fmax(scale, fabs(s->paid[i * s->capacity + c]));
    }
    const double nothing = 1e-12 * scale;
    memset(s->edge, 0, (size_t)nodes * nodes);
    for (int i = 0; i < g; i++) {
        const float *row = s->cost + (size_t)i * s->queries;
        const int j = free_query(s, i);
        int which;
        s->done[i] = 0;
        s->edge[(size_t)i * nodes + g] = j >= 0 && row[j] - s->dual[i] <= nothing;
        for (int r = 0; r < g; r++)
            s->edge[(size_t)i * nodes + r] = r != i && step(s, i, r, &which) <= nothing;
        for (int c = 0; c < s->capacity; c++)
            if (s->paid[i * s->capacity + c] - s->dual[i] >= -nothing)
                s->edge[(size_t)g * nodes + i] = 1;
    }
    s->done[g] = 0;
    int left = nodes;
    for (int before = left + 1; left < before;) { /* remove the nodes that lead nowhere */
        before = left;
        for (int i = 0; i < nodes; i++) {
            int leads = s->done[i];
            for (int r = 0; r < nodes && !leads; r++)
                leads = !s->done[r] && s->edge[(size_t)i * nodes + r];
            if (!leads) s->done[i] = 1, left--;
        }
    }
    return left > 0;
}

static int solve(State *s, int64_t *query, int64_t *target) {
    if (!claim(s)) return 0;
    for (int i = 0; i < s->targets; i++)
        while (s->held[i] < s->capacity)
            if (!augment(s, i)) return 0;
    if (tied(s)) return 0;
    for (int i = 0; i < s->targets; i++)
        for (int c = 0; c < s->capacity; c++) s->owner[s->own[i * s->capacity + c]] = i;
    for (int j = 0; j < s->queries; j++)
        if (s->taken[j] != 0) *query++ = j, *target++ = s->owner[j];
    return 1;
}

/* Solves one problem in a workspace of its own; 0 if it has to be solved elsewhere. */
static int assign(const float *cost, const int64_t *size, int64_t *query, int64_t *target) {
    State s = {cost, (int)size[0], (int)size[1], (int)size[2], (int)size[2] + SPARE};
    const size_t n = s.queries, g = s.targets, nodes = g + 1;
    const size_t blocks = n / BLOCK + 1;
    const size_t floats = n + g * s.capacity + blocks + s.length;
    const size_t integers = n + g * s.capacity + g * s.length + 6 * nodes;
    char *memory = calloc(1, 2 * g * sizeof(double) + floats * sizeof(float) +
                             integers * sizeof(int) + nodes * nodes);
    if (!memory) return 0;
    s.dual = (double *)memory, s.distance = s.dual + g;
    s.taken = (float *)(s.distance + g);
    s.paid = s.taken + n;
    s.low = s.paid + g * s.capacity, s.bound = s.low + blocks;
    s.owner = (int *)(s.bound + s.length), s.own = s.owner + n;
    s.list = s.own + g * s.capacity, s.held = s.list + g * s.length;
    s.next = s.held + nodes, s.count = s.next + nodes, s.parent = s.count + nodes;
    s.through = s.parent + nodes, s.done = s.through + nodes;
    s.edge = (char *)(s.done + nodes);
    memset(s.owner, -1, n * sizeof(int));
    const int solved = solve(&s, query, target);
    free(memory);
    return solved;
}

/* sizes (P, 3): queries, targets, capacity. The matches of a problem, in the order of queries,
   begin at `first` (P) of query and target; solved (P) says which problems were solved: not those
   with a tie or without a finite solution. */
void assign_all(const float **costs, const int64_t *sizes, const int64_t *first, int64_t *query,
                int64_t *target, int8_t *solved, int64_t problems, int64_t threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t p = 0; p < problems; p++)
        solved[p] = (int8_t)assign(costs[p], sizes + 3 * p, query + first[p], target + first[p]);
}
