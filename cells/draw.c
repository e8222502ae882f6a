/* draw.c: the values that initialisers give: random draws, orthogonal matrices by QR, spectral
 * radii by eigenvalues. Touches random numbers and LAPACK only. */
#include "initialisers.h"

#include <math.h>
#include <string.h>

/* LAPACK, in Fortran's calling convention. */
extern void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau,
                    double *work, const int *lwork, int *info);
extern void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda,
                    const double *tau, double *work, const int *lwork, int *info);
extern void dgeev_(const char *jobvl, const char *jobvr, const int *n, double *a, const int *lda,
                   double *wr, double *wi, double *vl, const int *ldvl, double *vr, const int *ldvr,
                   double *work, const int *lwork, int *info, size_t jobvl_length,
                   size_t jobvr_length);

static int64_t count(const wg_drawing *d) { return d->rows * d->columns; }

static void fill(wg_drawing *d, double value) {
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = value;
}

static void draw_uniform(wg_drawing *d, double low, double high) {
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = low + (high - low) * wg_random_uniform(&d->random);
}

static void draw_normal(wg_drawing *d, double deviation) {
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = deviation * wg_random_normal(&d->random);
}

static const char *between(wg_drawing *d) {
    double low = d->n == 2 ? d->arg[0] : -d->arg[0], high = d->arg[d->n - 1];
    if (low > high)
        return "the ends of this interval are in the wrong order";
    draw_uniform(d, low, high);
    return NULL;
}

static const char *log_uniform(wg_drawing *d) {
    if (!(d->arg[0] > 0) || d->arg[1] < d->arg[0])
        return "log_uniform(a, b) needs 0 < a <= b";
    draw_uniform(d, log(d->arg[0]), log(d->arg[1]));
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = exp(d->value[i]);
    return NULL;
}

static const char *linspace(wg_drawing *d) {
    double last = (double)(count(d) > 1 ? count(d) - 1 : 1);
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = d->arg[0] + (d->arg[1] - d->arg[0]) * ((double)i / last);
    return NULL;
}

/* Forget biases that remember for up to T steps. */
static const char *chrono(wg_drawing *d) {
    if (!(d->arg[0] >= 2))
        return "chrono(T) needs a T of 2 or more";
    draw_uniform(d, 1, d->arg[0] - 1);
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] = log(d->value[i]);
    return NULL;
}

static const char *sparse(wg_drawing *d, double density, double deviation) {
    if (!(density > 0) || density > 1)
        return "a density lies above 0 and is at most 1";
    for (int64_t i = 0; i < count(d); i++) {
        bool there = wg_random_uniform(&d->random) < density;
        double value = deviation * wg_random_normal(&d->random);
        d->value[i] = there ? value : 0;
    }
    return NULL;
}

static const char *identity(wg_drawing *d) {
    fill(d, 0);
    for (int64_t i = 0; i < d->rows && i < d->columns; i++)
        d->value[i * d->columns + i] = d->n ? d->arg[0] : 1;
    return NULL;
}

/* N(0, 1) cut at two deviations; then the variance is 0.87962566^2. */
static void truncated(wg_drawing *d, double deviation) {
    for (int64_t i = 0; i < count(d); i++) {
        double value;
        do
            value = wg_random_normal(&d->random);
        while (fabs(value) > 2);
        d->value[i] = deviation / 0.87962566103423978 * value;
    }
}

/* As many draws as the library has biases that are one here. */
static void pytorch(wg_drawing *d) {
    double k = 1 / sqrt((double)d->hidden);
    fill(d, 0);
    for (int draw = 0; draw < d->draws; draw++)
        for (int64_t i = 0; i < count(d); i++)
            d->value[i] += k * (2 * wg_random_uniform(&d->random) - 1);
}

/* ---- matrices
 * ------------------------------------------------------------------------------------------------
 */

/* Work space for LAPACK, in doubles; NULL, with the status, when refused. */
static double *space(wg_drawing *d, int64_t doubles, wg_status *status) {
    double *block = wg__take(d->memory, wg__size((size_t)doubles, sizeof *block, 0));
    if (!block)
        *status = wg__refusal(d->memory);
    return block;
}

/* The Q of a normal matrix (m by n, m >= n, column by column), each column with the sign of R's
 * diagonal, so that it is uniform (Haar) over the orthonormal ones. Source: Mezzadri 2007. */
static void orthonormal(wg_drawing *d, int m, int n, double *q, double *tau, double *work,
                        int room) {
    int info;
    for (int64_t i = 0; i < (int64_t)m * n; i++)
        q[i] = wg_random_normal(&d->random);
    dgeqrf_(&m, &n, q, &m, tau, work, &room, &info);
    double *sign = work + room;
    for (int j = 0; j < n; j++)
        sign[j] = q[(int64_t)j * m + j] < 0 ? -1 : 1;
    dorgqr_(&m, &n, &n, q, &m, tau, work, &room, &info);
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            q[j * m + i] *= sign[j];
}

/* gain * the part-th of `parts` blocks of rows of an orthogonal matrix; a wide block alone has
 * orthonormal rows. */
static const char *orthogonal(wg_drawing *d, double gain, int part, int parts, wg_status *status) {
    int64_t rows = d->rows * parts, m = wg__max(rows, d->columns), n = wg__min(rows, d->columns);
    if (m > INT32_MAX / 64)
        return "this matrix is too large to be orthogonal";
    int room = (int)n * 64;
    double *q = space(d, m * n + n + room + n, status);
    if (!q)
        return NULL;
    orthonormal(d, (int)m, (int)n, q, q + m * n, q + m * n + n, room);
    for (int64_t i = 0; i < d->rows; i++)
        for (int64_t j = 0; j < d->columns; j++) {
            int64_t row = part * d->rows + i;
            d->value[i * d->columns + j] =
                gain * (rows >= d->columns ? q[j * m + row] : q[row * m + j]);
        }
    wg__give(d->memory, q);
    return NULL;
}

/* The largest modulus of an eigenvalue. */
static double radius(wg_drawing *d, double *copy, int n, int room) {
    double *wr = copy + (int64_t)n * n, *wi = wr + n, *work = wi + n, none, largest = 0;
    int info, one = 1;
    memcpy(copy, d->value, (size_t)count(d) * sizeof *copy);
    dgeev_("N", "N", &n, copy, &n, wr, wi, &none, &one, &none, &one, work, &room, &info, 1, 1);
    for (int i = 0; i < n && info == 0; i++)
        largest = fmax(largest, hypot(wr[i], wi[i]));
    return largest;
}

static const char *spectral(wg_drawing *d, wg_status *status) {
    if (d->rows > INT32_MAX / 64)
        return "this matrix is too large for a spectral radius";
    const char *why = sparse(d, d->arg[1], 1);
    if (why)
        return why;
    int n = (int)d->rows, room = n * 34;
    double *copy = space(d, (int64_t)n * n + 2 * (int64_t)n + room, status);
    if (!copy)
        return NULL;
    double largest = radius(d, copy, n, room);
    wg__give(d->memory, copy);
    if (!(largest > 1e-9))
        return "this matrix has no eigenvalue but zero: give it a higher density";
    for (int64_t i = 0; i < count(d); i++)
        d->value[i] *= d->arg[0] / largest;
    return NULL;
}

/* ---- all kinds
 * ------------------------------------------------------------------------------------------------
 */

const char *wg__draw(wg_drawing *d, wg_status *status) {
    double in = (double)d->columns, out = (double)d->rows;
    switch (d->kind) {
    case WG_INIT_zeros: fill(d, 0); break;
    case WG_INIT_ones: fill(d, 1); break;
    case WG_INIT_NUMBER: fill(d, d->arg[0]); break;
    case WG_INIT_uniform: return between(d);
    case WG_INIT_normal: draw_normal(d, d->arg[0]); break;
    case WG_INIT_log_uniform: return log_uniform(d);
    case WG_INIT_linspace: return linspace(d);
    case WG_INIT_glorot_uniform:
        draw_uniform(d, -sqrt(6 / (in + out)), sqrt(6 / (in + out)));
        break;
    case WG_INIT_glorot_normal: draw_normal(d, sqrt(2 / (in + out))); break;
    case WG_INIT_he_uniform: draw_uniform(d, -sqrt(6 / in), sqrt(6 / in)); break;
    case WG_INIT_he_normal: draw_normal(d, sqrt(2 / in)); break;
    case WG_INIT_lecun_normal: draw_normal(d, sqrt(1 / in)); break;
    case WG_INIT_orthogonal: return orthogonal(d, d->n ? d->arg[0] : 1, 0, 1, status);
    case WG_INIT_identity: return identity(d);
    case WG_INIT_sparse: return sparse(d, d->arg[0], d->arg[1]);
    case WG_INIT_spectral: return spectral(d, status);
    case WG_INIT_chrono: return chrono(d);
    case WG_INIT_FAN_IN: draw_normal(d, sqrt(1 / (d->rank == 2 ? in : out))); break;
    case WG_INIT_PYTORCH: pytorch(d); break;
    case WG_INIT_FLAX: truncated(d, sqrt(1 / in)); break;
    case WG_INIT_KERAS_INPUT:
        out *= d->parts;
        draw_uniform(d, -sqrt(6 / (in + out)), sqrt(6 / (in + out)));
        break;
    case WG_INIT_KERAS_STATE: return orthogonal(d, 1, d->part, d->parts, status);
    case WG_INIT_NEGATIVE:
    case WG_INIT_NONE: return "there is no initialiser";
    }
    return NULL;
}
