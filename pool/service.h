/*
 * service: reports to a service manager at NOTIFY_SOCKET (sd_notify(3)).
 *
 *   READY=1              when the server listens, when the child of an upgrade is the server, and
 *                        when the upgrade is over.  The manager may refuse that of the child, if
 *                        MAINPID= is still pending
 *   RELOADING=1          when an upgrade begins
 *   STATUS=              when the phase changes, and every SERVICE_STATUS_NS
 *   WATCHDOG=1           every quarter of WATCHDOG_USEC, while no thread is stalled (pool/stall)
 *   STOPPING=1           when the stop begins
 *   EXTEND_TIMEOUT_USEC  with every status from then on: the manager waits as long as the server
 *                        drains, and kills it if no more messages come
 *   MAINPID=             when the new process of an upgrade becomes the server: nothing follows
 *
 * Nothing waits for the manager.  All but status and watchdog are kept until its queue has room.
 * Other messages are left out, and the next one contains the current state.  The main thread only.
 */
#ifndef POOL_SERVICE_H
#define POOL_SERVICE_H

#include "net/sd_notify.h"
#include "pool/server.h"

#define SERVICE_STATUS_NS (10 * NS_PER_S)
#define SERVICE_EXTEND_NS (3 * SERVICE_STATUS_NS)

enum service_phase {
  SERVICE_SERVING,
  SERVICE_UPGRADING,
  SERVICE_DELAYED,  /* the drain delay runs */
  SERVICE_DRAINING, /* until the drain timeout is over */
};

struct service {
  struct sd_notify notify; /* owns */
  struct log *log;         /* borrows */
  uint64_t watchdog_ns;    /* between two of WATCHDOG=1; NEVER = the manager wants none */
  uint64_t watchdog_at_ns; /* when the next one is due; NEVER likewise */
  uint64_t status_at_ns;   /* when the next status is due */
  enum service_phase phase;
  bool stalled;       /* the log has said so */
  bool left;          /* another process is the server */
  char main_pid[32];  /* MAINPID=..., as it was sent last or is pending */
  char reloading[64]; /* RELOADING=1, likewise */
};

/** Connect to the service manager, if ${environment} names one. Failures are logged. */
void service_open(struct service *service, const char *const *environment, struct log *log);
void service_close(struct service *service);

/** This process is the new one of an upgrade: READY=1 will say that the upgrade is over. */
static inline void service_set_upgrading(struct service *service) {
  service->phase = SERVICE_UPGRADING;
}

/** Send READY=1 or STOPPING=1. */
void service_ready(struct service *service);
void service_stopping(struct service *service);

/** The process ${pid} is the server now.  If it is another one, this one only reports that. */
void service_set_main(struct service *service, int64_t pid);

/** Does the manager still have to be told of a state? */
bool service_pending(const struct service *service);

/**
 * service_tend(service, server, phase, until_ns):
 * Send what is due. ${until_ns} is when ${phase} ends, in SERVICE_DELAYED and SERVICE_DRAINING.
 * Return: when to call it again, if ${phase} does not change before; NEVER if there is no manager.
 */
uint64_t service_tend(struct service *service, struct xchg_server *server, enum service_phase phase,
                      uint64_t until_ns);

#endif
