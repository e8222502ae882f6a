/* Fuzzes the reading of model files: a file is a model whose parts fit, which runs, or it is refused with one message. An
 * input is a file; or, if it begins with a !, a header (to the last newline) and its data, to which the true length is
 * put. */
#include "fuzz.h"

#include "model.h"
#include "tape.h"

#include <string.h>

enum { LIMIT = 1 << 24 };

long fuzz_accepted;

#define TEXT(name, dim, from, to) "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" dim "],\"data_offsets\":[" from "," to "]}"

const fuzz_text fuzz_seeds[] = {
    FUZZ("!{\"__metadata__\":{\"wengert.format\":\"1\",\"wengert.cell\":\"cell r\\nstate h\\nh' = tanh(W @ x + U @ h + b)\\n\","
         "\"wengert.cell.name\":\"r.cell\",\"wengert.cell.set\":\"\",\"wengert.dtype\":\"f32\",\"wengert.vocabulary\":\"0\","
         "\"wengert.embed\":\"0\",\"wengert.input\":\"1\",\"wengert.hidden\":\"1\",\"wengert.layers\":\"1\","
         "\"wengert.outputs\":\"1\"}," TEXT("layer0.W", "1,1", "0", "4") "," TEXT("layer0.U", "1,1", "4", "8") "," TEXT(
             "layer0.b", "1", "8", "12") "," TEXT("output.W", "1,1", "12", "16") "," TEXT("output.b", "1", "16", "20") "}\n"
         "aaa?bbb?ccc?ddd?eee?"),
    FUZZ("!{\"__metadata__\":{\"wengert.format\":\"1\",\"wengert.cell\":\"cell r\\nconst k = 2\\nsize N = hidden\\nstate h[N] = "
         "0.5\\nfixed U\\nh' = k*(U @ x) + h\\n\",\"wengert.cell.name\":\"r\",\"wengert.cell.set\":\"k=3\\nN=hidden+1\\n\","
         "\"wengert.dtype\":\"f32\",\"wengert.vocabulary\":\"2\",\"wengert.embed\":\"1\",\"wengert.input\":\"0\","
         "\"wengert.hidden\":\"1\",\"wengert.layers\":\"2\",\"wengert.outputs\":\"0\",\"mine\":\"yes\"}," TEXT(
             "embedding", "2,1", "0", "8") "," TEXT("layer0.U", "2,1", "8", "16") "," TEXT("layer1.U", "2,2", "16",
                                                                                           "32") "," TEXT("rest", "1", "32", "36") "}\n"
         "aaa?bbb?ccc?ddd?eee?fff?ggg?hhh?iii?"),
    {0}};

const fuzz_text fuzz_words[] = {
    FUZZ("\"wengert.hidden\":\"2\""), FUZZ("\"wengert.layers\":\"1000\""), FUZZ("\"wengert.dtype\":\"f64\""),
    FUZZ("\"wengert.cell.set\":\"k=1\\n\""), FUZZ("2147483647"), FUZZ("-1"), FUZZ("layer1."), FUZZ("layer0."),
    FUZZ("\"shape\":[1,1]"), FUZZ("\"F64\""), FUZZ("\\n"), FUZZ("state "), FUZZ("output y\\n"), FUZZ("U @ h"), FUZZ("hidden"),
    FUZZ("\"0\""), FUZZ("\"1\""), FUZZ("="), {0}};

/* Two steps of a model that was read: whatever its cell, this ends with numbers or with a status. */
static void run(wg_memory *memory, const wg_model *model) {
    const wg_model_options *o = wg_model_sizes(model);
    const int64_t dim[3] = {2, 1, o->input};
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *x = wg_tensor_new(memory, o->vocabulary ? WG_I32 : o->dtype, o->vocabulary ? 2 : 3, dim), *out = NULL;
    wg_params *states = wg_model_states(model, 1);
    wg_forward pass = {0};
    if (tape && x && wg_model_record(model, tape, wg_leaf(tape, x), states, NULL, &pass) == WG_OK) {
        FUZZ_LAW(wg_tape_validate(tape, NULL) == WG_OK);
        if (wg_eval(1, &pass.output, &out, NULL) == WG_OK)
            FUZZ_LAW(wg_tensor_shape(out)->rank == 3 && wg_tensor_shape(out)->dim[0] == 2);
    }
    FUZZ_LAW(!tape || (wg_tape_status(tape) == WG_OK) == (wg_tape_message(tape)[0] == 0));
    wg_tensor_free(out);
    wg_forward_free(&pass);
    wg_params_free(states);
    wg_tensor_free(x);
    wg_tape_free(tape);
}

static void parse(const void *data, size_t size) {
    wg_memory *memory = wg_memory_new(NULL, LIMIT);
    wg_error error = {0};
    wg_params *more = NULL;
    if (!memory)
        return;
    wg_model *model = wg__model_parse(memory, data, size, "fuzz", &more, &error);
    FUZZ_LAW((model != NULL) == (error.status == WG_OK) && (model != NULL) == (more != NULL));
    FUZZ_LAW(model || strncmp(error.text, "fuzz", 4) == 0);
    if (model) {
        fuzz_accepted++;
        run(memory, model);
    }
    wg_params_free(more);
    wg_model_free(model);
    FUZZ_LAW(wg_memory_used(memory) == 0);
    wg_memory_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || data[0] != '!') {
        parse(data, size);
        return 0;
    }
    const uint8_t *line = memrchr(data, '\n', size);
    uint64_t header = line ? (uint64_t)(line - data) : size - 1;
    uint8_t *file = malloc(8 + size);
    if (!file)
        return 0;
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(header >> (8 * i));
    memcpy(file + 8, data + 1, size - 1);
    parse(file, 8 + size - 1);
    free(file);
    return 0;
}
