package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/keydir/keylog"
)

// Bounds of the configuration.
const (
	minSegment    = 1 << 20
	maxSegment    = 1 << 30
	maxLine       = 4 << 20
	maxTimeout    = time.Hour
	maxDedup      = 30 * 24 * time.Hour
	maxDefinition = 100_000_000
)

// Validate reports every value that is out of its range and every contradiction, each
// with the name of its key.
func (c *Config) Validate() error {
	var p problems
	if c.Data == "" {
		p.addf("data: must name a folder")
	}
	p.address("server.addr", c.Server.Addr)
	if c.Metrics.Addr != "off" {
		p.address("metrics.addr", c.Metrics.Addr)
	}
	if c.Metrics.Addr == c.Server.Addr && !strings.HasSuffix(c.Server.Addr, ":0") {
		p.addf("metrics.addr: must differ from server.addr")
	}
	p.between("server.max_connections", c.Server.MaxConnections, 1, 1_000_000)
	p.between("server.max_connections_per_identity", c.Server.MaxConnectionsPerIdentity, 0, 1_000_000)
	p.size("server.max_memory_bytes", c.Server.MaxMemoryBytes, 1<<20, 1<<40)
	p.between("server.max_handshakes", c.Server.MaxHandshakes, 1, 100_000)
	p.duration("server.handshake_timeout", c.Server.HandshakeTimeout, 100*time.Millisecond, maxTimeout)
	p.duration("server.write_timeout", c.Server.WriteTimeout, time.Second, maxTimeout)
	p.size("server.max_line_bytes", c.Server.MaxLineBytes, 1<<10, maxLine)
	p.between("server.max_unconfirmed", c.Server.MaxUnconfirmed, 1, 10_000_000)
	if c.Server.MaxMemoryBytes < 16*c.Server.MaxLineBytes {
		p.addf("server.max_memory_bytes: must be at least 16 times server.max_line_bytes (%v)", c.Server.MaxLineBytes)
	}

	p.oneOf("tls.min_version", c.TLS.MinVersion, "1.2", "1.3")
	p.together(map[string]string{"tls.cert": c.TLS.Cert, "tls.key": c.TLS.Key, "tls.ca": c.TLS.CA})

	p.size("storage.segment_bytes", c.Storage.SegmentBytes, minSegment, maxSegment)
	p.size("storage.cache_bytes", c.Storage.CacheBytes, 0, 1<<40)
	p.oneOf("storage.damage", c.Storage.Damage, "refuse", "quarantine")
	p.size("storage.min_free_bytes", c.Storage.MinFreeBytes, 0, 1<<50)
	p.size("storage.max_pending_bytes", c.Storage.MaxPendingBytes, 1<<20, 1<<40)
	if c.Storage.SegmentBytes < 2*c.Server.MaxLineBytes {
		p.addf("storage.segment_bytes: must be at least twice server.max_line_bytes (%v)", c.Server.MaxLineBytes)
	}
	if c.Storage.MaxPendingBytes < 2*c.Server.MaxLineBytes {
		p.addf("storage.max_pending_bytes: must be at least twice server.max_line_bytes (%v)", c.Server.MaxLineBytes)
	}

	p.duration("dedup.window", c.Dedup.Window, time.Second, maxDedup)
	p.between("dedup.max_ids", c.Dedup.MaxIDs, 1, maxDefinition)
	p.between("limits.queues", c.Limits.Queues, 1, maxDefinition)
	p.between("limits.exchanges", c.Limits.Exchanges, 1, maxDefinition)
	p.between("limits.bindings", c.Limits.Bindings, 1, maxDefinition)
	p.between("limits.keys", c.Limits.Keys, 1, maxDefinition)
	p.between("limits.key_log", c.Limits.KeyLog, 1, keylog.MaxLog)
	p.between("limits.key_changes", c.Limits.KeyChanges, 1, keylog.MaxLog)
	p.between("limits.chains", c.Limits.Chains, 1, maxDefinition)
	p.between("limits.messages", c.Limits.Messages, 1, 2_000_000_000)
	p.between("metrics.max_queue_series", c.Metrics.MaxQueueSeries, 0, 100_000)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	return errors.Join(p...)
}

// problems collects everything that is wrong, so that the user can fix it all at once.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) between(key string, v, low, high int) {
	if v < low || v > high {
		p.addf("%s: %d is not between %d and %d", key, v, low, high)
	}
}

func (p *problems) size(key string, v, low, high Size) {
	if v < low || v > high {
		p.addf("%s: %v is not between %v and %v", key, v, low, high)
	}
}

func (p *problems) duration(key string, v, low, high time.Duration) {
	if v < low || v > high {
		p.addf("%s: %v is not between %v and %v", key, v, low, high)
	}
}

// together checks that all of some keys are set, or none.
func (p *problems) together(values map[string]string) {
	var set, missing []string
	for key, v := range values {
		if v == "" {
			missing = append(missing, key)
		} else {
			set = append(set, key)
		}
	}
	if len(set) == 0 {
		return
	}
	slices.Sort(set)
	slices.Sort(missing)
	for _, key := range missing {
		p.addf("%s: must be set together with %s", key, strings.Join(set, " and "))
	}
}

func (p *problems) oneOf(key, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		p.addf("%s: %q is not one of %s", key, v, strings.Join(allowed, ", "))
	}
}

func (p *problems) address(key, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		p.addf("%s: %q is not host:port", key, addr)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		p.addf("%s: port %q is not a number from 0 to 65535", key, port)
	}
}
