/* loop_plan.h: a loop as the lists that a run walks: loop_plan.c makes them, run_loop.c walks them. Every value that a loop's kernels
 * read or write is a slot, whose address is moved on after each iteration, if anything reads it (wg_loop_slot.needed); kernels are called on
 * the rows of one tile. Includes the program. */
#ifndef WG_LOOP_PLAN_H
#define WG_LOOP_PLAN_H

#include "gemm.h"
#include "pairs.h"
#include "run_loop.h"

/* Where a value is found in an iteration. */
typedef enum wg_slot_kind {
    WG_SLOT_OUTSIDE, /* in a buffer of the workspace, a tensor or a constant, `step` bytes further in each iteration */
    WG_SLOT_TILE,    /* in the lane's scratch */
    WG_SLOT_CARRIED, /* where slot `first` is before the first iteration; then where slot `next` was in the one before */
    WG_SLOT_ENDING   /* where slot `next` is; in iteration `when`, where slot `first` is */
} wg_slot_kind;

/* How a slot's address changes. */
typedef enum wg_move { WG_MOVE_STEP, WG_MOVE_TWICE, WG_MOVE_CARRIED, WG_MOVE_ENDING, WG_MOVES } wg_move;

typedef struct wg_loop_slot {
    wg_slot_kind kind;
    uint32_t value;      /* WG_SLOT_OUTSIDE: its address is that of this value */
    int64_t shift;       /* bytes, after that */
    int64_t row;         /* bytes from one row to the next; 0: the same for all rows */
    bool in_strip;       /* WG_SLOT_TILE: of the rows of a strip, from its first on */
    int64_t step;        /* bytes from one iteration to the next */
    int64_t when;
    int64_t twice;       /* WG_SLOT_TILE: bytes between the places of even and odd iterations, or 0 */
    uint32_t first, next;
    uint32_t spread_in, block; /* 1 + the region that had it repeated last, and in which block */
    bool needed; /* its address, in every iteration: it is read other than through references that are kept, or other slots follow it */
    size_t memo; /* where wg__loop_plan_new noted it */
} wg_loop_slot;

/* A kernel called with its operands cut to the rows of a tile; or a region; or a product with a packed matrix. */
typedef struct wg_loop_kernel {
    uint32_t id; /* instruction */
    uint32_t region;  /* 1 + index; 0: none */
    uint32_t product; /* 1 + index into the lane's products; 0: none */
    uint32_t n;
    uint32_t in; /* its operands begin at this index of `operands` */
    uint32_t out;
    uint32_t until; /* one past the last of the kernels from this one on that a strip runs through before the next does */
    uint32_t first_ask, asks; /* of the plan's: what a product asks memory for */
    uint32_t beside_id, beside; /* the instruction whose result it makes too (wg_op.beside), and where; 0: none */
} wg_loop_kernel;

/* What an instruction of a region reads or writes for a block: a block of the lane's, or a slot, a row and a column further on. */
typedef struct wg_loop_reference {
    bool in_block;
    bool spread; /* in a block, where a slot's one element of the row is repeated */
    uint32_t slot, block;
    int64_t row, step; /* the slot's */
} wg_loop_reference;

/* A reference to a slot: its index, and how its address is found and moves on. That of a running sum of groups is found anew in each row. */
typedef struct wg_loop_moving {
    uint32_t reference, slot;
    int64_t row; /* bytes from one row to the next; 0 of a place for a strip alone: its rows begin there */
    int64_t next_row; /* from the last block of one to the first of the next */
} wg_loop_moving;

/* A reference of a region that is called once in an iteration, whose address is kept from one to the next: it moves by so many bytes, or is where
 * its slot is. */
typedef struct wg_loop_kept {
    uint32_t reference, slot;
    int64_t step;
} wg_loop_kept;

/* A slot's one element of the row and the block that it is repeated in. */
typedef struct wg_loop_repeated {
    uint32_t slot, block;
} wg_loop_repeated;

/* Of one instruction, or of one and those of its operands that nothing else reads. */
enum { WG_STEP_OPERANDS = 4 };
typedef struct wg_loop_step {
    const wg_op *op;
    wg__pair pair;
    uint16_t sum; /* of rows in groups (wg__folds_rows): 1 + the operand that it adds to; else 0 */
    uint16_t n, ahead; /* ahead: bit k: operand k is asked of memory a block before it is read (n: the result) */
    uint32_t refers;   /* of the plan's references: its operands, then the result */
} wg_loop_step;

/* Pointwise instructions that are run block by block. */
typedef struct wg_loop_region {
    uint32_t first, count; /* of the plan's steps */
    uint32_t instructions; /* that those make */
    wg_dtype dtype;
    int64_t columns;  /* elements of a row */
    bool flat;        /* rows lie one after the other in every operand: they are walked as one */
    bool once;        /* one row in one block: nothing moves within an iteration */
    uint32_t refers;             /* of the plan's references: where its steps' begin */
    uint32_t first_moving, movings; /* of the plan's */
    uint32_t first_sum, sums;    /* of the plan's */
    uint32_t first_spread, spreads; /* of the plan's: what is repeated, for every row */
} wg_loop_region;

/* How many rows a kernel is called on: those of a tile, of the last one, which may be smaller, of a strip, and of either's last strip. */
typedef enum wg_cut { WG_CUT_TILE, WG_CUT_LAST, WG_CUT_STRIP, WG_CUT_TILE_END, WG_CUT_LAST_END, WG_CUTS } wg_cut;

/* An array of a kernel's: its slot, and its shape for so many rows. */
typedef struct wg_loop_operand {
    uint32_t slot;
    const wg_shape *shape[WG_CUTS];
} wg_loop_operand;

/* What a product asks memory for while it goes on, since a region after it reads or writes it and it is far away: so many lines of each row
 * of a slot, in this iteration or the next. */
enum { WG_MOST_ASKS = 32 };
typedef struct wg_loop_ask {
    uint32_t slot;
    bool later;
    int64_t lines;
} wg_loop_ask;

/* Copied out of the loop after the last iteration. */
typedef struct wg_loop_result {
    uint32_t slot, to, id; /* from slot to slot; the instruction */
    bool folded; /* of the tile's rows there are the sums of groups; the others are zero */
} wg_loop_result;

struct wg_loop_plan {
    const wg_program *program;
    const wg_loop *loop;
    wg_loop_slot *slots;
    int64_t slot_count;
    uint32_t *moved; /* slots that are needed, whose addresses change from one iteration to the next, by how */
    int64_t moved_until[WG_MOVES];
    wg_loop_kernel *kernels;
    int64_t kernel_count;
    wg_loop_operand *operands;
    int64_t operand_count;
    wg_loop_result *results;
    int64_t result_count;
    wg_loop_region *regions;
    int64_t region_count;
    wg_loop_step *steps;
    int64_t step_count;
    wg_loop_reference *references;
    int64_t reference_count;
    wg_loop_moving *movings;
    int64_t moving_count;
    wg_loop_kept *kept; /* first those that move by a step, kept_stepping of them; then those that follow a slot */
    int64_t kept_stepping, kept_count;
    wg_loop_ask *asks;
    int64_t ask_count;
    uint32_t *sums; /* steps that add up rows in groups */
    int64_t sum_count;
    wg_loop_repeated *spreads;
    int64_t spread_count;
    uint32_t products, blocks; /* that a lane needs */
    uint32_t most_operands;
    size_t scratch; /* of the kernels */
};

/* What a product asks for in iteration t, for so many rows of slots that are at these addresses now: at most WG_MOST_ASKS things. */
int64_t wg__loop_asks(const wg_loop_plan *l, const wg_loop_kernel *product, char *const *at, int64_t t, int64_t rows, wg_soon *soon);

/* Elements that a region's instructions handle at a time. */
enum { WG_REGION_BLOCK = 256 };
/* Bytes from one block to the next: five lines more than it takes. A load must wait for earlier stores to addresses that differ by a
 * multiple of 4096, and so would most of them, were blocks as far apart as they are long. */
enum { WG_BLOCK_STEP = WG_REGION_BLOCK * 8 + 320 };

#endif
