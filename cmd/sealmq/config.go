package main

import (
	"time"

	"github.com/sealmq/sealmq/keydir/keylog"
)

// Config is everything that can be configured. The file sealmq.yaml has the same sections
// and keys. "sealmq config example" prints config.example.yaml, which explains each key; a
// test compares the two. No package knows Config: serve.go translates it into their own
// small configurations.
type Config struct {
	// Data is the folder for everything that the broker keeps.
	Data    string        `key:"data"`
	Server  ServerConfig  `key:"server"`
	TLS     TLSConfig     `key:"tls"`
	Storage StorageConfig `key:"storage"`
	Dedup   DedupConfig   `key:"dedup"`
	Limits  LimitsConfig  `key:"limits"`
	Metrics MetricsConfig `key:"metrics"`
	Log     LogConfig     `key:"log"`
}

// ServerConfig is the listener for clients.
type ServerConfig struct {
	// Addr is host:port; port 0 is a free port.
	Addr string `key:"addr"`
	// MaxConnections limits open connections; further ones are closed before the
	// handshake.
	MaxConnections int `key:"max_connections"`
	// MaxConnectionsPerIdentity limits the connections of one identity; 0 is half of
	// MaxConnections.
	MaxConnectionsPerIdentity int `key:"max_connections_per_identity"`
	// MaxMemoryBytes limits the memory of all connections for requests, replies and
	// deliveries.
	MaxMemoryBytes Size `key:"max_memory_bytes"`
	// MaxHandshakes limits concurrent TLS handshakes.
	MaxHandshakes int `key:"max_handshakes"`
	// HandshakeTimeout limits one TLS handshake.
	HandshakeTimeout time.Duration `key:"handshake_timeout"`
	// WriteTimeout is how long a peer may accept no data before it is disconnected.
	WriteTimeout time.Duration `key:"write_timeout"`
	// MaxLineBytes limits one request line.
	MaxLineBytes Size `key:"max_line_bytes"`
	// MaxUnconfirmed limits the commands of one connection that wait for their reply.
	MaxUnconfirmed int `key:"max_unconfirmed"`
}

// TLSConfig names the files of the listener. If they are empty, the listener uses the
// files that "sealmq init" makes in the data folder.
type TLSConfig struct {
	Cert string `key:"cert"`
	Key  string `key:"key"`
	CA   string `key:"ca"`
	// Revoked is the revocation list. It is looked for in the data folder if it is empty.
	Revoked string `key:"revoked"`
	// MinVersion is 1.2 or 1.3.
	MinVersion string `key:"min_version"`
}

// StorageConfig is the journal and the local engine.
type StorageConfig struct {
	// SegmentBytes is the size of one segment file.
	SegmentBytes Size `key:"segment_bytes"`
	// CacheBytes limits the bodies that are kept in memory for consumers.
	CacheBytes Size `key:"cache_bytes"`
	// Damage is what a start does if records are damaged: refuse or quarantine.
	Damage string `key:"damage"`
	// MinFreeBytes is the free space below which publishes are refused.
	MinFreeBytes Size `key:"min_free_bytes"`
	// MaxPendingBytes limits the bytes that wait for a sync.
	MaxPendingBytes Size `key:"max_pending_bytes"`
}

// DedupConfig is the horizon within which a repeated message id is recognised.
type DedupConfig struct {
	Window time.Duration `key:"window"`
	MaxIDs int           `key:"max_ids"`
}

// LimitsConfig limits definitions and messages.
type LimitsConfig struct {
	Queues    int `key:"queues"`
	Exchanges int `key:"exchanges"`
	Bindings  int `key:"bindings"`
	Keys      int `key:"keys"`
	// KeyLog limits all changes of keys, KeyChanges those of one client and suite.
	KeyLog     int `key:"key_log"`
	KeyChanges int `key:"key_changes"`
	// Chains limits senders' certificate chains.
	Chains int `key:"chains"`
	// Messages limits the messages of all queues, with each copy counted.
	Messages int `key:"messages"`
}

// MetricsConfig is the listener for metrics and health.
type MetricsConfig struct {
	// Addr is host:port, or "off".
	Addr string `key:"addr"`
	// MaxQueueSeries is how many queues have their own series; the others are summed.
	MaxQueueSeries int `key:"max_queue_series"`
}

// LogConfig is what is logged and in which format. Logs go to standard error.
type LogConfig struct {
	Level  string `key:"level"`
	Format string `key:"format"`
}

// defaultData is the default data folder.
const defaultData = "sealmq-data"

// defaultConfig has the default of every key.
func defaultConfig() Config {
	return Config{
		Data: defaultData,
		Server: ServerConfig{
			Addr:             "127.0.0.1:5672",
			MaxConnections:   10_000,
			MaxMemoryBytes:   256 << 20,
			MaxHandshakes:    256,
			HandshakeTimeout: 5 * time.Second,
			WriteTimeout:     time.Minute,
			MaxLineBytes:     4 << 20,
			MaxUnconfirmed:   100_000,
		},
		TLS: TLSConfig{MinVersion: "1.2"},
		Storage: StorageConfig{
			SegmentBytes:    32 << 20,
			CacheBytes:      8 << 20,
			Damage:          "refuse",
			MinFreeBytes:    256 << 20,
			MaxPendingBytes: 64 << 20,
		},
		Dedup: DedupConfig{Window: time.Hour, MaxIDs: 2_000_000},
		Limits: LimitsConfig{Queues: 100_000, Exchanges: 10_000, Bindings: 1_000_000, Keys: 100_000, KeyLog: keylog.MaxLog, KeyChanges: 1024, Chains: 10_000,
			Messages: 20_000_000},
		Metrics: MetricsConfig{Addr: "127.0.0.1:15692", MaxQueueSeries: 1000},
		Log:     LogConfig{Level: "info", Format: "auto"},
	}
}
