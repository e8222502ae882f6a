/* probe.h: what the parts of `wengert probe` share: its arguments, the variants that are compared, the series measured. */
#ifndef WG_TOOLS_PROBE_H
#define WG_TOOLS_PROBE_H

#include "subject.h"

typedef struct probe_arguments {
    common common;
    int64_t length, batch, hidden, input, seeds, seed;
    int type, loss;
    const char *drive, *out;
    words only;
    settings set;
    initial init;
} probe_arguments;

enum { LOSS_LAST, LOSS_SUM };

/* One cell or model, at one choice of the settings that are swept. */
typedef struct variant {
    const char *name; /* as on the command line */
    char *label;      /* the settings swept, "g=0.8 n=2"; or "" */
    settings set;
    subject subject;
} variant;

/* Of one state: log10 of norms after step t + 1, over rows and seeds. */
typedef struct series {
    const variant *of;
    char *state;
    int64_t steps;
    double *median, *low, *high; /* [steps]; low and high: the 5 and 95 % quantiles */
} series;

typedef struct report {
    const probe_arguments *a;
    int variants, count;
    variant *variant;
    series *series;
} report;

/* Measures the gradient norms of a variant's states and adds their series. 0, or 1 having said what is wrong. */
int measure_norms(report *r, const variant *v, progress *p);
/* The change of the median's log10 a step, by least squares over the finite values; NaN if there are not two. */
double series_slope(const series *s);

/* norms.csv, probe.json and the picture, in the folder --out. */
int write_report(const report *r);

#endif
