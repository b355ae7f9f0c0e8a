/* A PAM module that misbehaves as its first argument says. Built by the test beside it; it follows
 * pam_sm_authenticate(3) and never runs outside a test's own service folder. */
#define _GNU_SOURCE
#define PAM_SM_AUTH
#define PAM_SM_ACCOUNT
#define PAM_SM_PASSWORD
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

static int hang(void)
{
    signal(SIGTERM, SIG_IGN);
    setsid();
    for (;;)
        pause();
    return PAM_ABORT;
}

/* What the replay list of tests/security asks for. Nothing where the mode is another. */
static int dialogue(pam_handle_t *pamh, const char *mode, const char *argument)
{
    static char flood[100001];
    int i = PAM_SUCCESS;
    if (!strcmp(mode, "forever"))
        while (i == PAM_SUCCESS)
            i = say(pamh, 1, PAM_PROMPT_ECHO_OFF, "again: ");
    if (!strcmp(mode, "flood")) {
        memset(flood, 'A', sizeof(flood) - 1);
        for (i = 0; i < 40; i++)
            if (say(pamh, 1, PAM_TEXT_INFO, flood) != PAM_SUCCESS)
                return PAM_AUTH_ERR;
        return PAM_SUCCESS;
    }
    if (!strcmp(mode, "ansi"))
        return say(pamh, 1, PAM_TEXT_INFO, "\033[2Jred\007 \xe2\x80\xae" "caf\xe9");
    if (!strcmp(mode, "radio"))
        return say(pamh, 1, PAM_RADIO_TYPE, "yes or no? ");
    if (!strcmp(mode, "binary"))
        return say(pamh, 1, PAM_BINARY_PROMPT, "\001\002\003\004");
    if (!strcmp(mode, "steps")) {
        if (say(pamh, 1, PAM_PROMPT_ECHO_ON, "one: ") != PAM_SUCCESS
            || say(pamh, 1, PAM_ERROR_MSG, "an error that is none") != PAM_SUCCESS
            || say(pamh, 1, PAM_PROMPT_ECHO_OFF, "two: ") != PAM_SUCCESS)
            return PAM_AUTH_ERR;
        return say(pamh, 1, PAM_PROMPT_ECHO_OFF, "three: ");
    }
    if (!strcmp(mode, "device")) {
        if (say(pamh, 1, PAM_TEXT_INFO, "Open https://id.example.org/device and type WDJB-MJHT.") != PAM_SUCCESS)
            return PAM_AUTH_ERR;
        return say(pamh, 1, PAM_PROMPT_ECHO_OFF, "Press Enter when you are done: ");
    }
    if (!strcmp(mode, "become"))
        return pam_set_item(pamh, PAM_USER, argument);
    if (!strcmp(mode, "bytes"))
        return pam_set_item(pamh, PAM_USER, "al\xff" "ice");
    if (!strcmp(mode, "maxtries"))
        return say(pamh, 1, PAM_PROMPT_ECHO_OFF, "Password: ") == PAM_SUCCESS ? PAM_MAXTRIES : PAM_CONV_ERR;
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
    if (!strcmp(mode, "hang"))
        return hang();
    if (!strcmp(mode, "exec"))
        execl("/bin/true", "true", (char *)NULL);
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
    return dialogue(pamh, mode, argc > 1 ? argv[1] : "");
}

PAM_EXTERN int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *mode = argc > 0 ? argv[0] : "";
    (void)flags;
    if (!strcmp(mode, "late-rename"))
        return pam_set_item(pamh, PAM_USER, "root");
    if (!strcmp(mode, "hang"))
        return hang();
    if (!strcmp(mode, "abort"))
        abort();
    if (!strcmp(mode, "ask"))
        return say(pamh, 1, PAM_PROMPT_ECHO_OFF, "may you? ");
    if (!strcmp(mode, "tell"))
        return say(pamh, 1, PAM_TEXT_INFO, "three days are left");
    if (!strcmp(mode, "away"))
        return PAM_AUTHINFO_UNAVAIL;
    if (!strcmp(mode, "change"))
        return PAM_NEW_AUTHTOK_REQD;
    if (!strcmp(mode, "change-another")) {
        if (pam_set_item(pamh, PAM_USER, argv[1]) != PAM_SUCCESS)
            return PAM_SYSTEM_ERR;
        return PAM_NEW_AUTHTOK_REQD;
    }
    return PAM_SUCCESS;
}

/* Leaves a file behind, so that a test sees whether it was called at all. */
PAM_EXTERN int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *mode = argc > 0 ? argv[0] : "";
    FILE *mark = fopen("/etc/sdrest-test/chauthtok", "a");
    if (mark != NULL) {
        fprintf(mark, "%s\n", flags & PAM_PRELIM_CHECK ? "prelim" : "update");
        fclose(mark);
    }
    if (flags & PAM_PRELIM_CHECK)
        return PAM_SUCCESS;
    if (!strcmp(mode, "hang"))
        return hang();
    if (!strcmp(mode, "again"))
        return say(pamh, 1, PAM_PROMPT_ECHO_OFF, "New password: ") == PAM_SUCCESS ? PAM_AUTHTOK_ERR : PAM_CONV_ERR;
    return PAM_PERM_DENIED;
}
