// A push server on the C interface of uWebSockets: one thread, a hash table of who is there. A page's first message is its
// uid; TEXT takes lines, answered `ok` or `fail`; the body of a POST to API goes to everyone.
//   uws PUBLIC TEXT API USERS

#define _GNU_SOURCE
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is used of the interface; the first argument of each call says whether it is about TLS.
typedef struct uws_app uws_app;
typedef struct uws_response uws_response;
typedef struct uws_websocket uws_websocket;
typedef struct us_loop us_loop;
typedef struct us_context us_context;
typedef struct us_socket us_socket;
typedef struct { const char *files[6]; int low_memory; } us_options;
typedef struct { int port; const char *host; int options; } uws_listen_config;
typedef struct {
  int compression;
  unsigned max_payload;
  unsigned short idle_timeout;
  unsigned max_backpressure;
  bool close_on_backpressure_limit, reset_idle_timeout_on_send, send_pings;
  unsigned short max_lifetime;
  void *upgrade, *open;
  void (*message)(uws_websocket *, const char *, size_t, int, void *);
  void *drain, *ping, *pong;
  void (*close)(uws_websocket *, int, const char *, size_t, void *);
  void *subscription;
} uws_behavior;

us_loop *uws_get_loop(void);
uws_app *uws_create_app(int, us_options);
void uws_ws(int, uws_app *, const char *, uws_behavior, void *);
int uws_ws_send(int, uws_websocket *, const char *, size_t, int);
void uws_app_post(int, uws_app *, const char *, void (*)(uws_response *, void *, void *), void *);
void uws_app_listen_with_config(int, uws_app *, uws_listen_config, void (*)(void *, uws_listen_config, void *), void *);
void uws_app_run(int, uws_app *);
void uws_res_on_data(int, uws_response *, void (*)(uws_response *, const char *, size_t, bool, void *), void *);
void uws_res_on_aborted(int, uws_response *, void (*)(uws_response *, void *), void *);
void uws_res_end(int, uws_response *, const char *, size_t, bool);
us_context *us_create_socket_context(int, us_loop *, int, us_options);
void us_socket_context_on_open(int, us_context *, us_socket *(*)(us_socket *, int, char *, int));
void us_socket_context_on_data(int, us_context *, us_socket *(*)(us_socket *, char *, int));
void us_socket_context_on_close(int, us_context *, us_socket *(*)(us_socket *, int, void *));
void us_socket_context_on_end(int, us_context *, us_socket *(*)(us_socket *));
void us_socket_context_on_writable(int, us_context *, us_socket *(*)(us_socket *));
void us_socket_context_on_timeout(int, us_context *, us_socket *(*)(us_socket *));
void us_socket_context_on_long_timeout(int, us_context *, us_socket *(*)(us_socket *));
void *us_socket_context_listen(int, us_context *, const char *, int, int, int);
void *us_socket_ext(int, us_socket *);
int us_socket_write(int, us_socket *, const char *, int, int);
us_socket *us_socket_close(int, us_socket *, int, void *);

enum { TEXT = 1 };
struct user { char uid[16]; uws_websocket *ws; };
static struct user *users;
static size_t count, room;

static struct user *find(const char *uid, size_t length) {
  char key[sizeof users->uid];
  if (length >= sizeof key) return NULL;
  memcpy(key, uid, length);
  key[length] = 0;
  ENTRY *entry = hsearch((ENTRY){key, NULL}, FIND);
  return entry ? entry->data : NULL;
}

static void hello(uws_websocket *ws, const char *uid, size_t length, int opcode, void *data) {
  (void)opcode, (void)data;
  struct user *user = find(uid, length);
  if (!user) {
    if (count == room || length >= sizeof user->uid) return;
    user = &users[count++];
    memcpy(user->uid, uid, length);
    hsearch((ENTRY){user->uid, user}, ENTER);
  }
  user->ws = ws;
}

static void gone(uws_websocket *ws, int code, const char *reason, size_t length, void *data) {
  (void)code, (void)reason, (void)length, (void)data;
  for (struct user *user = users; user < users + count; user++)
    if (user->ws == ws) user->ws = NULL;
}

static bool push(const char *line, size_t length) {
  const char *uid = memmem(line, length, "\"uid\":\"", 7);
  const char *end = uid ? memchr(uid + 7, '"', line + length - uid - 7) : NULL;
  struct user *user = end ? find(uid + 7, end - uid - 7) : NULL;
  if (!user || !user->ws) return false;
  uws_ws_send(0, user->ws, line, length, TEXT);
  return true;
}

// What has come of a line that is not whole yet.
struct rest { char *bytes; int length, room; };

static us_socket *opened(us_socket *socket, int client, char *ip, int length) {
  (void)client, (void)ip, (void)length;
  memset(us_socket_ext(0, socket), 0, sizeof(struct rest));
  return socket;
}

static us_socket *read_lines(us_socket *socket, char *bytes, int length) {
  static char answers[1 << 16];
  struct rest *rest = us_socket_ext(0, socket);
  int used = 0, answered = 0;
  if (rest->length + length > rest->room) rest->bytes = realloc(rest->bytes, rest->room = 2 * (rest->length + length));
  memcpy(rest->bytes + rest->length, bytes, length);
  rest->length += length;
  for (char *end; (end = memchr(rest->bytes + used, '\n', rest->length - used)); used = end + 1 - rest->bytes) {
    const char *line = rest->bytes + used;
    answered += sprintf(answers + answered, push(line, end - line) ? "ok\n" : "fail\n");
    if (answered + 8 < (int)sizeof answers) continue;
    us_socket_write(0, socket, answers, answered, 0);
    answered = 0;
  }
  memmove(rest->bytes, rest->bytes + used, rest->length -= used);
  if (answered) us_socket_write(0, socket, answers, answered, 0);
  return socket;
}

static us_socket *closed(us_socket *socket, int code, void *reason) {
  (void)code, (void)reason;
  free(((struct rest *)us_socket_ext(0, socket))->bytes);
  return socket;
}

static us_socket *ended(us_socket *socket) { return us_socket_close(0, socket, 0, NULL); }
static us_socket *nothing(us_socket *socket) { return socket; }

// A body of some hundred bytes comes in one piece.
static void to_all(uws_response *response, const char *body, size_t length, bool last, void *data) {
  (void)data;
  if (!last) return;
  for (struct user *user = users; user < users + count; user++)
    if (user->ws) uws_ws_send(0, user->ws, body, length, TEXT);
  uws_res_end(0, response, "{}", 2, false);
}

static void aborted(uws_response *response, void *data) { (void)response, (void)data; }

static void post(uws_response *response, void *request, void *data) {
  (void)request, (void)data;
  uws_res_on_aborted(0, response, aborted, NULL);
  uws_res_on_data(0, response, to_all, NULL);
}

static void listening(void *socket, uws_listen_config config, void *data) {
  (void)config, (void)data;
  if (!socket) exit(1);
}

int main(int argc, char **argv) {
  if (argc != 5) return 64;
  room = strtoul(argv[4], NULL, 10);
  users = calloc(room, sizeof *users);
  if (!users || !hcreate(room + room / 2)) return 1;

  us_options options = {0};
  uws_app *app = uws_create_app(0, options);
  // The defaults of its interface for C++.
  uws_behavior behavior = {.max_payload = 16384, .idle_timeout = 120, .max_backpressure = 65536, .send_pings = true,
                           .message = hello, .close = gone};
  uws_ws(0, app, "/*", behavior, NULL);
  uws_app_post(0, app, "/*", post, NULL);
  for (int listener = 1; listener <= 3; listener += 2)
    uws_app_listen_with_config(0, app, (uws_listen_config){atoi(argv[listener]), "127.0.0.1", 0}, listening, NULL);

  us_context *lines = us_create_socket_context(0, uws_get_loop(), sizeof(struct rest), options);
  us_socket_context_on_open(0, lines, opened);
  us_socket_context_on_data(0, lines, read_lines);
  us_socket_context_on_close(0, lines, closed);
  us_socket_context_on_end(0, lines, ended);
  us_socket_context_on_writable(0, lines, nothing);
  us_socket_context_on_timeout(0, lines, nothing);
  us_socket_context_on_long_timeout(0, lines, nothing);
  if (!us_socket_context_listen(0, lines, "127.0.0.1", atoi(argv[2]), 0, sizeof(struct rest))) return 1;
  uws_app_run(0, app);
}
