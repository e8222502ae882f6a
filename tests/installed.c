/* installed.c: a user's program: only the public header, built by installed.sh against what was installed. */
#include <stdio.h>
#include <wengert.h>

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 1;
}

int main(void) {
    int64_t dim[] = {3, 4};
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F32, 2, dim);
    if (!tensor)
        return fail("no tensor");
    wg_tensor_fill(tensor, 2.5);
    if (wg_tensor_get(tensor, 11) != 2.5)
        return fail("a tensor does not hold what was written");
    wg_tensor_free(tensor);
    puts("runs");
    return 0;
}
