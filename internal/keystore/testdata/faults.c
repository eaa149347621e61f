/*
 * A PKCS#11 module that passes every call to a real one and goes wrong on
 * demand. FAULTS_MODULE is the real module's path, FAULTS_FILE the demand:
 *
 *     once|always FUNCTION ACTION [NUMBER]
 *
 * Of several lines the first that names the function counts. "once" takes the
 * file away when it strikes. Each strike is written to
 * FAULTS_FILE.log. The actions:
 *
 *     return N   answer N without doing anything
 *     hang       never return
 *     crash      SIGSEGV
 *     exit       end the process
 *     garbage N  say to the agent what is no frame, on its socket N (3 without), and do it
 *     sleep N    wait N ms, and do it
 *     hold       wait as long as this is demanded, and do it
 *     flip       do it, then flip a bit of the output, if that has NUMBER bytes
 *     flags N    do it, then set N in the flags of CK_TOKEN_INFO
 *     say        write the third argument, of as many bytes as the fourth says, to
 *                standard error, and do it
 *     leak       show CKA_VALUE, whatever the object says
 *     bare       C_UnwrapKey: do it, but the key is neither sensitive nor kept in the token
 *
 * The function list is handled as an array of pointers in the order of the
 * standard, and every function as one of eight words, so that no header is needed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word, word, word);

struct list {
	unsigned char version[2];
	function f[68];
};

static struct list *real, ours;

struct fault {
	char when[16], name[40], action[16];
	word number;
};

/* asked reads what is demanded of this function, if anything. */
static int asked(const char *path, const char *name, struct fault *f)
{
	char text[256], *line;
	int fd, n;

	if (!path || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		f->number = 0;
		if (sscanf(line, "%15s %39s %15s %li", f->when, f->name, f->action, (long *)&f->number) < 3)
			return 0;
		if (!strcmp(f->name, name))
			break;
	}
	return line != NULL;
}

/* demanded says whether the fault that is demanded is one of this function. */
static int demanded(const char *path, const char *name, struct fault *f, word out, word size)
{
	char log[4096];
	int fd;

	if (!asked(path, name, f))
		return 0;
	if (!strcmp(f->action, "flip") && (!out || *(word *)size != f->number))
		return 0;
	/* Of several that see it at once, one takes it. */
	if (!strcmp(f->when, "once") && unlink(path))
		return 0;
	snprintf(log, sizeof log, "%s.log", path);
	if ((fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) >= 0) {
		dprintf(fd, "%s %s\n", name, f->action);
		close(fd);
	}
	return 1;
}

static word call(int i, const char *name, word a, word b, word c, word d, word e, word g, word h, word j)
{
	const char *path = getenv("FAULTS_FILE");
	struct fault f, now;
	word rv;

	if (!demanded(path, name, &f, d, e))
		return real->f[i](a, b, c, d, e, g, h, j);
	if (!strcmp(f.action, "return"))
		return f.number;
	if (!strcmp(f.action, "hang"))
		for (;;)
			pause();
	if (!strcmp(f.action, "crash"))
		raise(SIGSEGV);
	if (!strcmp(f.action, "exit"))
		_exit(7);
	if (!strcmp(f.action, "say"))
		dprintf(2, "driver debug: %.*s\n", (int)d, (char *)c);
	if (!strcmp(f.action, "garbage"))
		(void)!write(f.number ? f.number : 3, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	if (!strcmp(f.action, "sleep"))
		usleep(f.number * 1000);
	if (!strcmp(f.action, "hold"))
		while (asked(path, name, &now) && !strcmp(now.action, "hold"))
			usleep(1000);
	if (!strcmp(f.action, "leak")) {
		word *attribute = (word *)c; /* type, pointer, length */
		if (attribute[0] == 0x11) {
			if (attribute[1])
				memcpy((void *)attribute[1], "leak", 4);
			attribute[2] = 4;
			return 0;
		}
	}
	if (!strcmp(f.action, "bare")) {
		word *attribute, n;
		for (attribute = (word *)g, n = h; n; n--, attribute += 3)
			if (attribute[0] == 0x103 || attribute[0] == 0x162) /* CKA_SENSITIVE, CKA_EXTRACTABLE */
				*(unsigned char *)attribute[1] = attribute[0] == 0x162;
	}
	rv = real->f[i](a, b, c, d, e, g, h, j);
	if (rv == 0 && !strcmp(f.action, "flags"))
		*(word *)((char *)b + 96) |= f.number;
	if (rv == 0 && !strcmp(f.action, "flip"))
		*(unsigned char *)d ^= 1;
	return rv;
}

#define EACH(X) \
	X(0, C_Initialize) X(4, C_GetSlotList) X(6, C_GetTokenInfo) X(12, C_OpenSession) X(13, C_CloseSession) \
	X(18, C_Login) X(20, C_CreateObject) X(22, C_DestroyObject) X(24, C_GetAttributeValue) \
	X(26, C_FindObjectsInit) X(27, C_FindObjects) X(28, C_FindObjectsFinal) \
	X(29, C_EncryptInit) X(30, C_Encrypt) X(33, C_DecryptInit) X(34, C_Decrypt) \
	X(42, C_SignInit) X(43, C_Sign) X(58, C_GenerateKey) X(59, C_GenerateKeyPair) \
	X(25, C_SetAttributeValue) X(61, C_UnwrapKey)

#define WRAPPER(i, name) \
	static word name(word a, word b, word c, word d, word e, word g, word h, word j) \
	{ return call(i, #name, a, b, c, d, e, g, h, j); }
EACH(WRAPPER)

static word get_list(struct list **out) { *out = &ours; return 0; }

word C_GetFunctionList(struct list **out)
{
	word (*get)(struct list **);
	void *module = dlopen(getenv("FAULTS_MODULE"), RTLD_NOW);

	if (!module || !(get = dlsym(module, "C_GetFunctionList")) || get(&real))
		return 5;
	ours = *real;
	ours.f[3] = (function)(void *)get_list;
#define ENTER(i, name) ours.f[i] = name;
	EACH(ENTER)
	*out = &ours;
	return 0;
}
