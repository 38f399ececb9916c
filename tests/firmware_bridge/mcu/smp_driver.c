/* Feeds stdin to the SMP server and prints its replies; a 00 for each byte that is not the server's.
 * The flash is the file named by the first argument. */
#include "flash_file.h"
#include "smp.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    static smp_t smp;
    int byte;
    if ((argc != 2) || (flash_open(argv[1]) != 0)) {
        return 2;
    }
    smp_init(&smp, boot_choose());
    while ((byte = getchar()) != EOF) {
        uint8_t pass[2];
        const size_t passed = smp_feed(&smp, (uint8_t)byte, pass);
        for (size_t i = 0; i < passed; i++) {
            (void)putchar(0);
        }
        while (smp.message_len != 0u) {
            smp_work(&smp);
            (void)fwrite(smp.reply, 1, smp.reply_len, stdout);
        }
    }
    return 0;
}
