/* planted_overflow.c: reads one past a block; AddressSanitizer must say so. */
#include <stdlib.h>

int main(int argc, char **argv) {
    (void)argv;
    volatile char *block = calloc(10, 1);
    volatile int past = block ? block[9 + argc] : 0;
    free((void *)block);
    return past == 1000; /* 0 unless caught */
}
