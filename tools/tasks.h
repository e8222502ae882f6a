/* tasks.h: the synthetic tasks: one sequence of each, drawn from a random sequence. */
#ifndef WG_TOOLS_TASKS_H
#define WG_TOOLS_TASKS_H

#include "wengert.h"

/* A task's sequence of `steps` steps is drawn into x, and its targets into y. Tokens and labels are stored as doubles too. */
typedef struct task {
    const char *name;
    int64_t vocabulary, input, outputs; /* as in `data` */
    bool last;                          /* one target, after the last step; else one a step */
    bool classes;                       /* y is a label; else a number */
    int64_t shortest;                   /* the least T */
    int64_t extra;                      /* steps beyond T */
    int64_t scored;                     /* how many last steps count for the accuracy; 0: all */
    double (*baseline)(int64_t length); /* loss of the trivial answer */
    const char *unit;
    void (*draw)(wg_random *random, int64_t length, double *x, double *y);
} task;

extern const task tasks[]; /* in the order of the choices of --task */
enum { TASK_ADDING, TASK_COPY, TASK_ORDER, TASK_PARITY, TASKS };
#define TASK_CHOICES "adding|copy|order|parity"

#endif
