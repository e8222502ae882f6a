/* subject.h: what a subcommand works on: a cell by name or file, or a model; arrays from files; the
 * sizes they imply. */
#ifndef WG_TOOLS_SUBJECT_H
#define WG_TOOLS_SUBJECT_H

#include "output.h"

/* One of the two. */
typedef struct subject {
    wg_cell *cell;
    wg_model *model;
} subject;

/* A cell of the zoo or of a file; or a model, if the name ends in .safetensors. Says what is wrong,
 * and returns 1. */
int subject_load(const common *c, const char *name, const settings *set, subject *s);
/* The same, for what takes cells only. */
wg_cell *cell_load(const common *c, const char *name, const settings *set);
void subject_free(subject *s);
/* The cell, the model's if it is one. */
const wg_cell *subject_cell(const subject *s);
/* The warnings of the cell's text, as notes. */
void subject_warn(const common *c, const subject *s);

/* Arrays by name from files: FILE.safetensors with many, or NAME=FILE.npy. NULL, having said what
 * is wrong. */
wg_params *arrays_load(const common *c, const words *file);

/* The role of a name of a cell in a file of arrays: its axes. */
typedef enum role { ROLE_INPUT, ROLE_STATE, ROLE_PARAM, ROLE_NONE } role;
role cell_role(const wg_cell *cell, const char *name);

/* The `hidden` for which the arrays have the shapes their names ask for: inputs (T,B,n), states
 * (B,n), parameters; and the cotangents, "y.grad" and "NAME.all.grad" (T,B,n), "STATE.grad" (B,n).
 * If none fits them all, the one that fits most, so that recording can tell what does not; 0 if
 * they say nothing about it. */
int64_t infer_hidden(const wg_cell *cell, int64_t input, const wg_params *arrays);

#endif
