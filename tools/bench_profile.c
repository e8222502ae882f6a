/* bench_profile.c: where the time of a workload's runs goes: by part, and by kernel. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int profile_measure(work *k, profile *p) {
    int64_t instructions = wg_plan_measure(k->plan).instructions;
    p->kernels = instructions + 1;
    p->sum.kernel = allocate((size_t)p->kernels, sizeof *p->sum.kernel);
    memset(p->sum.kernel, 0, (size_t)p->kernels * sizeof *p->sum.kernel);
    for (int64_t i = 0; i < p->wanted; i++)
        if (work_run_profiled(k, &p->sum) != 0)
            return 1;
    return 0;
}

/* Every thread's, of which a run has `threads`. */
double profile_share(const profile *p, double part) { return part / (p->sum.threads * p->sum.seconds); }

double profile_products(const work *k, const profile *p) {
    return p->sum.products > 0 ? k->flops * (double)p->sum.runs / (p->sum.products / p->sum.threads) : NAN;
}

/* ---- the heaviest kernels ---- */

typedef struct heavy {
    int64_t number;
    double seconds;
} heavy;

static int heaviest_first(const void *a, const void *b) {
    double x = ((const heavy *)a)->seconds, y = ((const heavy *)b)->seconds;
    return (x < y) - (x > y);
}

/* The printed program, an instruction a line. */
typedef struct listing {
    char *text;
    size_t size, room;
} listing;

static void add_text(void *user, const char *bytes, size_t size) {
    listing *l = user;
    if (l->size + size + 1 > l->room)
        l->text = grow(l->text, l->room = 2 * (l->size + size + 1), 1);
    memcpy(l->text + l->size, bytes, size);
    l->text[l->size += size] = 0;
}

/* The line of an instruction, up to its end. */
static const char *line_of(const listing *l, int64_t number, int *length) {
    char head[32];
    snprintf(head, sizeof head, "%%%lld = ", (long long)number);
    for (const char *at = l->text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        const char *text = at + strspn(at, " ");
        if (strncmp(text, head, strlen(head)) == 0) {
            *length = (int)strcspn(text, "\n");
            return text;
        }
    }
    *length = 0;
    return "";
}

void profile_print_kernels(const work *k, const profile *p, int64_t most) {
    heavy *each = allocate((size_t)p->kernels, sizeof *each);
    listing l = {0};
    for (int64_t i = 0; i < p->kernels; i++)
        each[i] = (heavy){i, p->sum.kernel[i]};
    qsort(each, (size_t)p->kernels, sizeof *each, heaviest_first);
    if (wg_plan_print(k->plan, NULL, add_text, &l) == WG_OK) {
        printf("%s %s: the heaviest kernels, ms a run of all threads together\n", k->w->name, k->w->what);
        for (int64_t i = 0; i < most && i < p->kernels && each[i].seconds > 0; i++) {
            int length;
            const char *line = line_of(&l, each[i].number, &length);
            printf("  %9.3f  %4.1f %%  %.*s\n", each[i].seconds / (double)p->sum.runs * 1e3,
                   100 * profile_share(p, each[i].seconds), length, line);
        }
        putchar('\n');
    }
    free(l.text);
    free(each);
}

void profile_free(profile *p) { free(p->sum.kernel); }
