/* initialisers.c: stub */
#include "reader.h"
void wg__check_inits(wg_reader *reader) { (void)reader; }
