/* evener.h: the two halves of the pass `even`: what a step at an end of a run has and lacks beside the others (missing.c), and which steps are
 * made like the others, and how (even.c). Includes the program. */
#ifndef WG_EVENER_H
#define WG_EVENER_H

#include "loop.h"
#include "make.h"
#include "steps.h"

/* An operand of an instruction put in. */
typedef enum source_kind {
    FROM_OLD,     /* of: old id */
    FROM_MADE,    /* of: index of what was put in */
    FROM_ELEMENT, /* element `at` of old array `of` */
    FROM_NOTHING  /* a constant, `value`: there is no such value */
} source_kind;

typedef struct source {
    source_kind kind;
    uint32_t of;
    uint32_t equal; /* FROM_MADE: old id of what that equals; 0: it is not known to be anything */
    int64_t at;
    double value;
    bool valid; /* it is what other steps would read; not: it, or what it is made of, stands for what is not there */
} source;

/* An instruction to put in before old instruction `before`. */
typedef struct missing {
    uint32_t before, next; /* next: 1 + the next before the same instruction */
    uint32_t like, step;   /* the others' instruction; the step that it stands in */
    int64_t sources;       /* the first of its operands in evener.sources */
    uint32_t made;
} missing;

/* What a step has at a position of the others' body. */
typedef struct entry {
    uint32_t id;     /* old id of an instruction of its own, or of what `made` equals; 0: none */
    uint32_t made;   /* 1 + index of what was put in; 0: nothing was */
    uint32_t array;  /* `made` equals an element: of this array; 0: no */
    int64_t element;
    bool valid, nothing; /* nothing: it is -0, or zeros */
    bool open;           /* a view of a constant or of what is not there, or a sum of that: it may be settled yet which constant, or value from outside, it is */
} entry;

/* What a step has and the others lack: it leaves the step, to stand before old instruction `before`. */
typedef struct extra {
    uint32_t id, before, next; /* next: 1 + the next before the same instruction */
} extra;

/* A constant made before a run, for operands that are not there. */
typedef struct nothing {
    const wg_shape *shape;
    double value;
    uint32_t dtype, id;
} nothing;

enum { BEFORE_RUN = 1, AFTER_RUN };

typedef struct evener {
    wg_rewrite r;
    wg_steps s;
    missing *list;
    int64_t count, room;
    source *sources;
    int64_t source_count, source_room;
    entry *entries; /* of steps that were made like the others */
    int64_t entry_count, entry_room;
    extra *extras;
    int64_t extra_count, extra_room;
    nothing *constants;
    int64_t constant_count, constant_room;
    int64_t *evened;   /* by segment: 1 + its first entry; 0: it is as the others; -1: it is not */
    uint32_t *like;    /* by segment: the segment that its run is compared with */
    uint32_t *before;  /* by old id, and one more: 1 + the first missing before it */
    uint32_t *extra_before; /* 1 + the first extra before it (in one block with `before`) */
    uint8_t *leaves;   /* by old id of an extra: BEFORE_RUN or AFTER_RUN; 0: it is none */
    uint32_t *instead; /* by operand: 1 + what is read instead */
    int64_t *operands; /* by old id: the number of its first operand */
    uint32_t *alias;   /* by old id that the others read: what the step read there; */
    uint32_t *alias_of; /* 1 + the segment that this was noted for */
    bool lenient;      /* elements need not be the ones expected */
    bool without;      /* constants that the others add are not there */
    bool merged;       /* sums that begin alike are one */
    enum { ALL_STAY, LEAVE, LEAVE_FIRST } apart; /* what the others lack does not leave its step; does; also where it may as well lack something */
    int64_t start;     /* what steps before this one made is not looked at */
    int64_t looks;     /* so many may still be taken, in this step, at what may equal something missing */
} evener;


static inline const wg_instruction *old(const evener *w, uint32_t id) { return &w->r.program->list[id]; }
static inline const wg_segment *segment_at(const evener *w, int64_t s) { return &w->s.segments[s]; }
static inline bool is_sum(const wg_instruction *i) { return i->op == &wg__op_add && i->dtype != WG_I32; }
static inline bool is_own(wg_operand_place p) { return p.sort == WG_SAME && p.at == 0; }
static inline wg_operand_place place_seen(const evener *w, uint32_t id, const wg_segment *reader) {
    return w->leaves[id] == BEFORE_RUN ? (wg_operand_place){WG_OUTSIDE, id, 0, 0} : wg__place_of(&w->s, id, reader);
}
static inline bool same_run(const evener *w, int64_t a, int64_t b) {
    return a >= 0 && b >= 0 && a < w->s.count && b < w->s.count && segment_at(w, a)->run == segment_at(w, b)->run;
}

/* What segment s has at a position; false if it is not like the others. */
bool wg__even_entry_at(const evener *w, int64_t s, uint32_t position, entry *e);
/* Where an operand of the others, n of instruction k, is expected to be for segment s. False if that cannot be said. */
bool wg__even_expected_place(const evener *w, int64_t s, uint32_t k, uint32_t n, wg_operand_place *p);
/* Whether an operand that a step reads is what it has at a position. */
bool wg__even_is_entry(const evener *w, const entry *e, uint32_t in, const wg_segment *g);
/* Whether a step's instruction is the others' at position k. */
bool wg__even_pairs(evener *w, int64_t s, uint32_t own, uint32_t k);
/* Puts in what a step lacks at position k, before an old instruction. False if that cannot be. */
bool wg__even_put_in(evener *w, int64_t s, bool at_start, bool near_end, uint32_t k, uint32_t before, entry *e);

#endif
