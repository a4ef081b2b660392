package redisqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sealmq/sealmq"
)

// Times of connections and calls.
const (
	dialTimeout = time.Second
	callTimeout = 2 * time.Second
	lookEvery   = 5 * time.Second // at the server's settings
)

// Config says where the queue is.
type Config struct {
	// Addr is host:port of the server, or the path of its socket. It is empty if there are Sentinels.
	Addr string
	// Sentinels are addresses of Redis Sentinel, which know the server that is called Master.
	Sentinels []string
	Master    string
	// User and Password log in; User may be empty. SentinelPassword is for the Sentinels.
	User, Password, SentinelPassword string
	DB                               int
	// TLS is used for all connections unless it is nil.
	TLS *tls.Config
	// Queue is the name of the ready list, with which all other keys begin; pipeline.QueueName
	// if it is empty.
	Queue string
	// Log may be nil.
	Log *slog.Logger
}

func (q *Queue) connect(cfg *Config) *redis.Client {
	if len(cfg.Sentinels) > 0 {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: cfg.Master, SentinelAddrs: cfg.Sentinels, SentinelPassword: cfg.SentinelPassword,
			Username: cfg.User, Password: cfg.Password, DB: cfg.DB, TLSConfig: cfg.TLS, OnConnect: q.onConnect,
			Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: dialTimeout, DialerRetries: 1,
			ReadTimeout: callTimeout, WriteTimeout: callTimeout, PoolTimeout: dialTimeout, MaxRetries: -1})
	}
	// Nothing is repeated by the library: it does not know what a lost answer means.
	return redis.NewClient(&redis.Options{Addr: cfg.Addr, Username: cfg.User, Password: cfg.Password, DB: cfg.DB, TLSConfig: cfg.TLS, OnConnect: q.onConnect,
		Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: dialTimeout, DialerRetries: 1,
		ReadTimeout: callTimeout, WriteTimeout: callTimeout, PoolTimeout: dialTimeout, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}

// server is what a Redis server said of itself.
type server struct {
	version       string
	major, minor  int
	mode, role    string
	aof           bool
	fsync         string // always, everysec or no; empty if it does not say
	policy        string // what happens when the memory is used up
	memory, limit int64
	oldLog        bool // since its start it has not rewritten its append-only file
	rewriting     bool // it does so, or will
	keepsLog      bool // it does not let us ask for that
}

// onConnect looks at the server before a new connection is used: after a failover it may be
// another one.
func (q *Queue) onConnect(ctx context.Context, c *redis.Conn) error {
	s, err := look(ctx, c)
	if err == nil && s.mode == "sentinel" && q.sentinels {
		return nil // the library asks it for the server
	}
	if err == nil {
		err = s.check()
	}
	if err == nil {
		err = s.renewLog(ctx, c)
	}
	if err == nil {
		q.seen(s)
	}
	return err
}

func look(ctx context.Context, c redis.Cmdable) (*server, error) {
	var info *redis.StringCmd
	var fsync *redis.MapStringStringCmd
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		info, fsync = p.Info(ctx), p.ConfigGet(ctx, "appendfsync")
		return nil
	})
	if info.Err() != nil {
		return nil, info.Err()
	}
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
		return nil, err
	}
	s := &server{fsync: fsync.Val()["appendfsync"]}
	for line := range strings.Lines(info.Val()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "redis_version":
			s.version = value
			fmt.Sscanf(value, "%d.%d", &s.major, &s.minor) //nolint:errcheck // 0 is too old
		case "redis_mode":
			s.mode = value
		case "role":
			s.role = value
		case "aof_enabled":
			s.aof = value == "1"
		case "aof_rewrite_in_progress", "aof_rewrite_scheduled":
			s.rewriting = s.rewriting || value == "1"
		case "aof_last_rewrite_time_sec":
			s.oldLog = value == "-1"
		case "maxmemory_policy":
			s.policy = value
		case "used_memory":
			s.memory, _ = strconv.ParseInt(value, 10, 64)
		case "maxmemory":
			s.limit, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return s, nil
}

// unfit says that a server cannot be used. permanent tells that it will be so tomorrow.
type unfit struct {
	why       string
	permanent bool
}

func (e *unfit) Error() string { return e.why }

func (s *server) check() error {
	switch {
	case s.mode == "cluster":
		return &unfit{"it is a Redis Cluster, which cannot hold the queue: use one server, with replicas and Sentinel if it must not stop", true}
	case s.mode == "sentinel":
		return &unfit{"it is a Sentinel and not a server: name it in redis.sentinels", true}
	case s.major < 5:
		return &unfit{fmt.Sprintf("it is Redis %s; version 5 or later is needed", s.version), true}
	case s.role == "slave":
		return &unfit{"it is a replica, which takes no items: name its master, or the Sentinels", false}
	}
	return nil
}

// renewLog has a server rewrite its append-only file once after each of its starts. Killed in the
// middle of a script, it leaves a transaction without an end there. Redis does not execute that at
// the next start, but leaves it in the file, where what follows becomes a part of it: one start
// later it is executed, and items come again or are lost. A rewritten file has no such rest.
func (s *server) renewLog(ctx context.Context, c redis.Cmdable) error {
	if !s.aof || !s.oldLog || s.rewriting {
		return nil
	}
	err := c.BgRewriteAOF(ctx).Err()
	if _, refused := errors.AsType[redis.Error](err); refused {
		s.keepsLog = strings.HasPrefix(err.Error(), "NOPERM") || strings.Contains(err.Error(), "unknown command")
		return nil // or another connection was first
	}
	return err
}

func (s *server) atLeast(major, minor int) bool {
	return s.major > major || s.major == major && s.minor >= minor
}

// waits reports whether each call has to wait until the server has synced.
func (s *server) waits() bool { return s.aof && s.fsync != "always" && s.atLeast(7, 2) }

// trouble says why what the server has answered may be lost, or is empty.
func (s *server) trouble() string {
	switch {
	case !s.aof:
		return "Redis keeps no append-only file, so a restart loses messages: set appendonly yes and appendfsync always"
	case s.policy != "noeviction" && s.policy != "":
		return "Redis removes keys when its memory is full, and messages with them: set maxmemory-policy noeviction"
	case s.keepsLog:
		return "Redis has not rewritten its append-only file since its start, so being killed twice can lose messages: allow BGREWRITEAOF"
	case s.fsync == "always" || s.waits():
		return ""
	case s.fsync == "":
		return "Redis does not say when it syncs, so messages may be lost in a power cut: allow CONFIG GET, or use Redis 7.2 or later"
	}
	return "Redis syncs later than it answers, so a power cut loses messages: set appendfsync always, or use Redis 7.2 or later"
}

// Status is how the server is.
type Status struct {
	Up      bool   // it answered last
	Why     string // why it did not
	Version string
	// Trouble says why messages that were accepted may be lost, and what to set. It is empty
	// if the server keeps what it has answered, and before the server was seen.
	Trouble string
	// Memory is what the server uses, and Limit what it may, or 0.
	Memory, Limit int64
}

// Status tells how the server is. It asks nobody.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := Status{Up: q.up, Why: q.why}
	if s := q.server.Load(); s != nil {
		st.Version, st.Trouble, st.Memory, st.Limit = s.version, s.trouble(), s.memory, s.limit
	}
	return st
}

// seen notes what a server said.
func (q *Queue) seen(s *server) {
	old := q.server.Swap(s)
	if t := s.trouble(); t != "" && (old == nil || old.trouble() != t) {
		q.log.Warn("messages may be lost", "redis", s.version, "why", t)
	}
}

// note notes how a call ended, and returns its error in our words.
func (q *Queue) note(err error) error {
	if changed, up := q.noteState(err); changed && up {
		q.log.Info("Redis is there")
	} else if changed {
		q.log.Warn("Redis cannot be used; trying again", "error", err)
	}
	return coded(err)
}

// noteState notes whether the server can be used, and reports whether that has changed.
func (q *Queue) noteState(err error) (changed, up bool) {
	_, replied := errors.AsType[redis.Error](err)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed || errors.Is(err, context.Canceled):
	case err == nil:
		changed = !q.up
		q.up, q.why = true, ""
	case !replied && (q.up || q.why == ""):
		changed = true
		q.up, q.why = false, err.Error()
	}
	return changed, q.up
}

// Codes of replies. All others are Unavailable.
var replies = []struct{ prefix, says string }{
	{"OOM", "Redis has reached its maxmemory; give it more, or let workers empty the queue"},
	{"MISCONF", "Redis cannot write to its disk; look into its log"},
}

// coded gives an error its code. A caller can repeat the call in any case.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		for _, r := range replies {
			if strings.HasPrefix(reply.Error(), r.prefix) {
				return &sealmq.Error{Code: sealmq.NoStorage, Message: r.says, Err: err}
			}
		}
		return &sealmq.Error{Code: sealmq.Unavailable, Message: "Redis refuses the queue's command", Err: err}
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue cannot be reached; try again", Err: err}
}

// undone reports whether a call that failed with err has changed nothing for sure.
func undone(err error) bool {
	if _, ok := errors.AsType[redis.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*unfit](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed)
}

// refusal is the error of a server that will refuse the same tomorrow, or nil.
func refusal(err error) error {
	if u, ok := errors.AsType[*unfit](err); ok && u.permanent {
		return err
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		for _, prefix := range []string{"WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH", "ERR DB index"} {
			if strings.HasPrefix(reply.Error(), prefix) {
				return err
			}
		}
	}
	return nil
}
