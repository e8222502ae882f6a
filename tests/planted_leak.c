/* planted_leak.c: loses a block; AddressSanitizer must say so. */
#include <stdlib.h>

static void *volatile lost;

int main(void) {
    lost = malloc(100);
    lost = NULL;
    return 0;
}
