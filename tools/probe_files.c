/* probe_files.c: what `wengert probe --out DIR` leaves: norms.csv, probe.json, norms.svg. */
#include "outfile.h"
#include "plot.h"
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A field of a CSV file (RFC 4180). */
static void put_field(FILE *file, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void put_value(FILE *file, double value) {
    if (isfinite(value))
        fprintf(file, ",%.10g", value);
    else
        fputs(isnan(value) ? ",nan" : value < 0 ? ",-inf" : ",inf", file);
}

/* The header's columns are explained in the details of `wengert probe --help`. */
static int write_norms(const report *r) {
    outfile o;
    if (outfile_open(&r->a->common, &o, r->a->out, "norms.csv") != 0)
        return 1;
    fputs("cell,setting,state,step,log10_median,log10_q05,log10_q95\n", o.file);
    for (int i = 0; i < r->count; i++) {
        const series *s = &r->series[i];
        for (int64_t t = 0; t < s->steps; t++) {
            put_field(o.file, s->of->name);
            fputc(',', o.file);
            put_field(o.file, s->of->label);
            fprintf(o.file, ",%s,%lld", s->state, (long long)t + 1);
            put_value(o.file, s->median[t]);
            put_value(o.file, s->low[t]);
            put_value(o.file, s->high[t]);
            fputc('\n', o.file);
        }
    }
    return outfile_close(&r->a->common, &o);
}

static void put_variant(json *j, const variant *v) {
    const wg_model *model = v->subject.model;
    json_open(j, '{');
    json_put_text(j, "cell", v->name);
    json_put_text(j, "setting", v->label);
    json_put_bool(j, "trained", model != NULL);
    if (model) {
        json_put_integer(j, "layers", wg_model_sizes(model)->layers);
        json_put_integer(j, "hidden", wg_model_sizes(model)->hidden);
    }
    json_put_text(j, "cite", wg_cell_cite(subject_cell(&v->subject)));
    json_put_text(j, "text", wg_cell_text(subject_cell(&v->subject)));
    json_close(j, '}');
}

static void put_arguments(json *j, const probe_arguments *a) {
    json_key(j, "command");
    json_open(j, '[');
    for (int i = 0; i < a->common.argc; i++)
        json_text(j, a->common.argv[i]);
    json_close(j, ']');
    json_put_text(j, "version", WENGERT_VERSION);
    json_put_text(j, "compiler", __VERSION__);
    json_put_integer(j, "length", a->length);
    json_put_integer(j, "batch", a->batch);
    json_put_integer(j, "hidden", a->hidden);
    json_put_integer(j, "input", a->input);
    json_put_text(j, "type", a->type == 0 ? "f64" : "f32");
    json_put_text(j, "drive", a->drive);
    json_put_text(j, "loss", a->loss == LOSS_SUM ? "sum" : "last");
    json_key(j, "init");
    json_open(j, '[');
    for (int i = 0; i < a->init.line.count; i++)
        json_text(j, a->init.line.word[i]);
    json_close(j, ']');
    json_key(j, "seeds");
    json_open(j, '[');
    for (int64_t k = 0; k < a->seeds; k++)
        json_integer(j, a->seed + k);
    json_close(j, ']');
}

static int write_json(const report *r, bool drawn) {
    outfile o;
    if (outfile_open(&r->a->common, &o, r->a->out, "probe.json") != 0)
        return 1;
    json j = {.file = o.file};
    json_open(&j, '{');
    put_arguments(&j, r->a);
    json_key(&j, "cells");
    json_open(&j, '[');
    for (int i = 0; i < r->variants; i++)
        put_variant(&j, &r->variant[i]);
    json_close(&j, ']');
    json_key(&j, "files");
    json_open(&j, '[');
    json_text(&j, "norms.csv");
    if (drawn)
        json_text(&j, "norms.svg");
    json_close(&j, ']');
    json_close(&j, '}');
    json_end_line(&j);
    return outfile_close(&r->a->common, &o);
}

static int draw_norms(const report *r, bool *drawn) {
    plot_line *line = allocate((size_t)r->count, sizeof *line);
    for (int i = 0; i < r->count; i++) {
        const series *s = &r->series[i];
        const char *name = strrchr(s->of->name, '/');
        line[i] = (plot_line){.title = format_text("%s%s%s: %s", name ? name + 1 : s->of->name, *s->of->label ? " " : "",
                                                   s->of->label, s->state),
                              .first = 1, .count = s->steps, .value = s->median, .low = s->low, .high = s->high};
    }
    const plot p = {.title = r->a->loss == LOSS_SUM ? "How gradients flow back from the sum of all outputs"
                                                    : "How gradients flow back from the last output",
                    .x = "step t", .y = "log10 of the norm of dL/ds after step t (median, 5 to 95 %)",
                    .lines = r->count, .line = line};
    int status = plot_draw(&r->a->common, &p, r->a->out, "norms.svg", drawn);
    for (int i = 0; i < r->count; i++)
        free(line[i].title);
    free(line);
    return status;
}

int write_report(const report *r) {
    bool drawn = false;
    int status = write_norms(r);
    status = status ? status : draw_norms(r, &drawn);
    return status ? status : write_json(r, drawn);
}
