/*
 * What stands between Xen's xl and a machine without Xen: the few privileged calls that it makes before it prints how
 * it understands a configuration (`xl create -n`), answered so that it goes on.  Preloaded; includes and links nothing.
 */

static int something;

void *xc_interface_open(void *logger, void *domain_logger, unsigned flags) { return &something; }
int xc_interface_close(void *handle) { return 0; }

void *xs_open(unsigned long flags) { return &something; }
void xs_close(void *handle) { }

int xc_sched_id(void *handle, int *id) { *id = 0; return 0; }
int xc_physinfo(void *handle, void *info) { return 0; } /* the caller has cleared it */
long xc_sharing_freed_pages(void *handle) { return 0; }
long xc_sharing_used_frames(void *handle) { return 0; }

/* Texts are empty; the second question (compile_info) is for four of them in one structure. */
int xc_version(void *handle, int question, char *answer)
{
    int size = question == 2 ? 144 : 16;

    while (answer && size--)
        *answer++ = 0;
    return question == 8 ? 4096 : 0;
}

/* Xen 4.18 and later ask for texts one by one; whoever asks frees them. */
char *strdup(const char *text);
char *xc_xenver_extraversion(void *handle) { return strdup(""); }
char *xc_xenver_capabilities(void *handle) { return strdup(""); }
char *xc_xenver_changeset(void *handle) { return strdup(""); }
char *xc_xenver_commandline(void *handle) { return strdup(""); }
char *xc_xenver_buildid(void *handle) { return strdup(""); }
