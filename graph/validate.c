/* validate.c: checks of programs. (Only what the passes need to be called; the checks follow.) */
#include "program.h"

wg_status wg__validate(const wg_program *program, wg_error *error) {
    if (program->count < 1)
        return wg_error_set(error, WG_ARGUMENT, "program: it is empty");
    return WG_OK;
}
