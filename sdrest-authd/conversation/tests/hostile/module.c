/* A PAM module that misbehaves as its first argument says. Built by the test beside it; it follows
 * pam_sm_authenticate(3) and never runs outside a test's own service folder. */
#define _GNU_SOURCE
#define PAM_SM_AUTH
#define PAM_SM_ACCOUNT
#include <security/pam_modules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int say(pam_handle_t *pamh, int count, int style, const char *text)
{
    const struct pam_conv *conv = NULL;
    struct pam_message message = { style, text };
    const struct pam_message *messages[64];
    struct pam_response *responses = NULL;
    int i;
    if (pam_get_item(pamh, PAM_CONV, (const void **)&conv) != PAM_SUCCESS || conv == NULL)
        return PAM_SYSTEM_ERR;
    for (i = 0; i < 64; i++)
        messages[i] = &message;
    i = conv->conv(count, messages, &responses, conv->appdata_ptr);
    free(responses);
    return i;
}

PAM_EXTERN int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *mode = argc > 0 ? argv[0] : "";
    int fd;
    (void)flags;
    if (!strcmp(mode, "abort"))
        abort();
    if (!strcmp(mode, "exit"))
        exit(0);
    if (!strcmp(mode, "segv"))
        *(volatile int *)16 = 1;
    if (!strcmp(mode, "close"))
        for (fd = 3; fd < 256; fd++)
            close(fd);
    if (!strcmp(mode, "print")) {
        printf("hello from a module\n");
        fflush(stdout);
        if (write(0, "garbage", 7) < 0)
            return PAM_AUTH_ERR;
    }
    if (!strcmp(mode, "daemon") && fork() == 0) {
        setsid();
        if (fork() == 0) {
            signal(SIGTERM, SIG_IGN);
            execl("/bin/sleep", "sleep", "765432", (char *)NULL);
        }
        _exit(0);
    }
    if (!strcmp(mode, "hang")) {
        signal(SIGTERM, SIG_IGN);
        setsid();
        for (;;)
            pause();
    }
    if (!strcmp(mode, "many"))
        return say(pamh, 33, PAM_PROMPT_ECHO_OFF, "x");
    if (!strcmp(mode, "all"))
        return say(pamh, 32, PAM_PROMPT_ECHO_OFF, "x");
    if (!strcmp(mode, "none"))
        return say(pamh, 0, PAM_PROMPT_ECHO_OFF, "x");
    if (!strcmp(mode, "style"))
        return say(pamh, 1, 65535, "x");
    if (!strcmp(mode, "null"))
        return say(pamh, 1, PAM_TEXT_INFO, NULL);
    if (!strcmp(mode, "rename"))
        return pam_set_item(pamh, PAM_USER, "root");
    if (!strcmp(mode, "environment"))
        return getenv("SDREST_LEAK") == NULL ? PAM_SUCCESS : PAM_AUTH_ERR;
    return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)flags;
    if (argc > 0 && !strcmp(argv[0], "late-rename"))
        return pam_set_item(pamh, PAM_USER, "root");
    return PAM_SUCCESS;
}
