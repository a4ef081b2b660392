package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9/logging"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/redisqueue"
)

// set reports whether the pipeline's queue is in Redis.
func (c *RedisConfig) set() bool { return c.Addr != "" || c.Sentinels != "" }

// check reports contradictions.
func (c *RedisConfig) check() (p problems) {
	if c.Addr != "" && c.Sentinels != "" {
		p.addf("redis.addr and redis.sentinels: cannot be combined; the Sentinels know the server's address")
	}
	if (c.Sentinels == "") != (c.Master == "") {
		p.addf("redis.sentinels and redis.master: must be set together")
	}
	for _, addr := range c.sentinels() {
		if err := checkAddress("redis.sentinels", addr); err != nil {
			p.addf("redis.sentinels: %w", err)
		}
	}
	if c.Password != "" && c.PasswordFile != "" {
		p.addf("redis.password and redis.password_file: cannot be combined")
	}
	if (c.Cert == "") != (c.Key == "") {
		p.addf("redis.cert and redis.key: must be set together")
	}
	if c.TLS == "off" && c.CA+c.Cert != "" {
		p.addf("redis.tls: must be on for redis.ca and redis.cert")
	}
	if c.Queue == "" || strings.ContainsAny(c.Queue, " \r\n\x00") || len(c.Queue) > 200 {
		p.addf("redis.queue: must be a name of 1 to 200 bytes without blanks")
	}
	return p
}

func (c *RedisConfig) sentinels() []string {
	return strings.FieldsFunc(c.Sentinels, func(r rune) bool { return r == ',' || r == ' ' })
}

// queue is what opens the queue, with the passwords and certificates in files.
func (c *RedisConfig) queue(log *slog.Logger) (cfg redisqueue.Config, err error) {
	cfg = redisqueue.Config{Addr: c.Addr, Sentinels: c.sentinels(), Master: c.Master, User: c.User, Password: c.Password, DB: c.DB, Queue: c.Queue, Log: log}
	for _, p := range []struct {
		key, file string
		to        *string
	}{{"redis.password_file", c.PasswordFile, &cfg.Password}, {"redis.sentinel_password_file", c.SentinelPasswordFile, &cfg.SentinelPassword}} {
		if p.file == "" {
			continue
		}
		if *p.to, err = readPassword(p.file); err != nil {
			return cfg, fmt.Errorf("%s: %w", p.key, err)
		}
	}
	if c.TLS == "off" {
		return cfg, nil
	}
	// Its certificate is not of our authority, so that the system's may stand behind it.
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		roots, err := mtls.ReadAuthorities(c.CA)
		if err != nil {
			return cfg, fmt.Errorf("redis.ca: %w", err)
		}
		cfg.TLS.RootCAs = mtls.Pool(roots...)
	}
	if c.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return cfg, fmt.Errorf("redis.cert: %w", err)
		}
		cfg.TLS.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// redisFor opens the queue in Redis as a role. Redis knows no certificates of ours, so the role
// itself looks at its own.
func (n *node) redisFor(role sealmq.Role) (pipeline.Queue, error) {
	logging.Disable() // the library writes to standard error by itself; errors are logged where they are handled
	cfg, err := n.cfg.Redis.queue(n.roleLog(role))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := redisqueue.Open(ctx, cfg)
	if err != nil {
		return nil, withHint(fmt.Errorf("the queue in Redis cannot be used: %w", err), "look at the section redis of the configuration; docs/operations/redis.md says what the server needs")
	}
	n.pipeline.closers = append(n.pipeline.closers, q.Close)
	if n.pipeline.redis == nil {
		n.pipeline.redis = make(map[sealmq.Role]*redisqueue.Queue)
	}
	n.pipeline.redis[role] = q
	name := string(role)
	if role == sealmq.RoleServer {
		name = "main"
	}
	n.registryOf(name).MustRegister(q.Metrics())
	return &ownQueue{q, n.own(role)}, nil
}

// redisChecks are the checks of a role's queue in Redis, if it is there.
func (n *node) redisChecks(role sealmq.Role) []httpkit.Check {
	q := n.pipeline.redis[role]
	if q == nil {
		return nil
	}
	return []httpkit.Check{{Name: "redis_persistence", Run: func(context.Context) httpkit.Finding {
		if trouble := q.Status().Trouble; trouble != "" {
			return httpkit.Finding{Level: httpkit.Degraded, Value: "at risk", Reason: trouble}
		}
		return httpkit.Finding{}
	}}}
}

// redisTrouble is redisChecks for the pages of the worker.
func (n *node) redisTrouble() string {
	if q := n.pipeline.redis[sealmq.RoleWorker]; q != nil {
		return q.Status().Trouble
	}
	return ""
}

// checkServer asks the server, which may be away.
func (c *RedisConfig) checkServer(ctx context.Context) error {
	logging.Disable()
	cfg, err := c.queue(nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := redisqueue.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	s := q.Status()
	if err := q.Close(); err != nil {
		return err
	}
	switch {
	case !s.Up:
		return fmt.Errorf("redis: %s", s.Why)
	case s.Trouble != "":
		return errors.New("redis: " + s.Trouble)
	}
	return nil
}
