package main

import (
	_ "embed"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/pipeline"
)

// configExample explains every setting. Its values are the defaults.
//
//go:embed config.example.yaml
var configExample string

// Config is everything that can be configured. A field is a setting: its tag key is its
// name in sealmq.yaml, and its tag check says which values it can have, as allowed explains.
// No package knows Config: serve.go translates it into their own small configurations.
type Config struct {
	Data       string `key:"data" check:"folder"`
	Identities string `key:"identities" check:"folder"`

	Server  ServerConfig  `key:"server"`
	TLS     TLSConfig     `key:"tls"`
	Storage StorageConfig `key:"storage"`
	Dedup   DedupConfig   `key:"dedup"`
	Limits  LimitsConfig  `key:"limits"`
	Metrics MetricsConfig `key:"metrics"`
	Log     LogConfig     `key:"log"`
	Alerts  AlertsConfig  `key:"alerts"`
	CA      CAConfig      `key:"ca"`
	Backup  BackupConfig  `key:"backup"`

	Pipeline PipelineConfig `key:"pipeline"`
	Proxy    ProxyConfig    `key:"proxy"`
	Worker   WorkerConfig   `key:"worker"`
	Main     MainConfig     `key:"main"`
	Portal   PortalConfig   `key:"portal"`
	Mail     MailConfig     `key:"mail"`
	Redis    RedisConfig    `key:"redis"`
}

// ServerConfig is the listener for clients.
type ServerConfig struct {
	Addr                      string        `key:"addr" check:"address"`
	MaxConnections            int           `key:"max_connections" check:"1..1_000_000"`
	MaxConnectionsPerIdentity int           `key:"max_connections_per_identity" check:"0..1_000_000"`
	MaxMemoryBytes            Size          `key:"max_memory_bytes" check:"1MiB..1TiB"`
	MaxHandshakes             int           `key:"max_handshakes" check:"1..100_000"`
	HandshakeTimeout          time.Duration `key:"handshake_timeout" check:"100ms..1h"`
	WriteTimeout              time.Duration `key:"write_timeout" check:"1s..1h"`
	MaxLineBytes              Size          `key:"max_line_bytes" check:"1KiB..4MiB"`
	MaxUnconfirmed            int           `key:"max_unconfirmed" check:"1..10_000_000"`
}

// TLSConfig names the files of the listener. If they are empty, the listener uses the
// files that "sealmq init" makes in the data folder.
type TLSConfig struct {
	Cert       string `key:"cert" check:"path"`
	Key        string `key:"key" check:"path"`
	CA         string `key:"ca" check:"path"`
	Revoked    string `key:"revoked" check:"path"`
	MinVersion string `key:"min_version" check:"1.2|1.3"`
}

// StorageConfig is the journal and the local engine.
type StorageConfig struct {
	SegmentBytes    Size   `key:"segment_bytes" check:"1MiB..1GiB"`
	CacheBytes      Size   `key:"cache_bytes" check:"0..1TiB"`
	Damage          string `key:"damage" check:"refuse|quarantine"`
	MinFreeBytes    Size   `key:"min_free_bytes" check:"0..1024TiB"`
	MaxPendingBytes Size   `key:"max_pending_bytes" check:"1MiB..1TiB"`
}

// DedupConfig is the horizon within which a repeated message id is recognised.
type DedupConfig struct {
	Window time.Duration `key:"window" check:"1s..720h"`
	MaxIDs int           `key:"max_ids" check:"1..100_000_000"`
}

// LimitsConfig limits definitions and messages. The log of keys has at most keylog.MaxLog
// changes.
type LimitsConfig struct {
	Queues     int `key:"queues" check:"1..100_000_000"`
	Exchanges  int `key:"exchanges" check:"1..100_000_000"`
	Bindings   int `key:"bindings" check:"1..100_000_000"`
	Keys       int `key:"keys" check:"1..100_000_000"`
	KeyLog     int `key:"key_log" check:"1..1_000_000"`
	KeyChanges int `key:"key_changes" check:"1..1_000_000"`
	Chains     int `key:"chains" check:"1..100_000_000"`
	Messages   int `key:"messages" check:"1..2_000_000_000"`

	QueuesPerIdentity    int `key:"queues_per_identity" check:"1..100_000_000"`
	ExchangesPerIdentity int `key:"exchanges_per_identity" check:"1..100_000_000"`
	BindingsPerIdentity  int `key:"bindings_per_identity" check:"1..100_000_000"`
}

// MetricsConfig is the listener for metrics and health.
type MetricsConfig struct {
	Addr           string `key:"addr" check:"address|off"`
	MaxQueueSeries int    `key:"max_queue_series" check:"0..100_000"`
}

// AlertsConfig says who is told when something is wrong.
type AlertsConfig struct {
	MailTo         string        `key:"mail_to"`
	Webhook        string        `key:"webhook"`
	WebhookKeyFile string        `key:"webhook_key_file" check:"path"`
	Repeat         time.Duration `key:"repeat" check:"1m..720h"`
	OldestMessage  time.Duration `key:"oldest_message" check:"1s..8760h"`
	Certificate    time.Duration `key:"certificate" check:"0s..8760h"`
	Refusals       int           `key:"refusals" check:"1..1_000_000"`
}

// PipelineConfig is what the roles of the pipeline have in common, and where they find each
// other if they run in several processes.
type PipelineConfig struct {
	Broker    string `key:"broker" check:"address|"`
	Main      string `key:"main"`
	MaxBody   int    `key:"max_body" check:"1..65_536"`
	MinNumber int    `key:"min_number" check:"3..16"`
}

// mainURL is the main server's address. A slash at its end, which people copy from a browser, is
// not part of it.
func (c *PipelineConfig) mainURL() string { return strings.TrimSuffix(c.Main, "/") }

// ProxyConfig is the role that takes messages.
type ProxyConfig struct {
	Addr            string `key:"addr" check:"address"`
	Rate            int    `key:"rate" check:"-1..1_000_000"`
	Burst           int    `key:"burst" check:"0..10_000_000"`
	TrustedNetworks string `key:"trusted_networks"`
}

// WorkerConfig is the role that delivers messages.
type WorkerConfig struct {
	Name          string        `key:"name"`
	Addr          string        `key:"addr" check:"address|off"`
	Concurrency   int           `key:"concurrency" check:"1..1000"`
	Batch         int           `key:"batch" check:"1..500"`
	RetryInterval time.Duration `key:"retry_interval" check:"1s..24h"`
	MaxAttempts   int           `key:"max_attempts" check:"-1..1_000_000_000"`
}

// CAConfig is about authorities that are administered elsewhere, and how long machines renew by
// themselves what the own one has issued.
type CAConfig struct {
	StaleClose time.Duration `key:"stale_close" check:"25h..8760h"`
	RenewFor   time.Duration `key:"renew_for" check:"1h..87600h"`
}

// BackupConfig says when a node with broker or main server backs itself up, and where.
type BackupConfig struct {
	Folder         string `key:"folder" check:"path"`
	Schedule       string `key:"schedule"`
	KeepDays       int    `key:"keep_days" check:"1..36_500"`
	PassphraseFile string `key:"passphrase_file" check:"path"`
}

// MainConfig is the role that stores messages.
type MainConfig struct {
	Addr         string `key:"addr" check:"address"`
	Database     string `key:"database"`
	PasswordFile string `key:"password_file" check:"path"`
	Unsealed     string `key:"unsealed" check:"refuse|take"`
	Audit        string `key:"audit" check:"acts|messages"`

	SessionIdle      time.Duration `key:"session_idle" check:"1m..720h"`
	SessionLifetime  time.Duration `key:"session_lifetime" check:"5m..8760h"`
	LoginMaxFailures int           `key:"login_max_failures" check:"1..1000"`
	LoginLock        time.Duration `key:"login_lock" check:"1m..24h"`
}

// PortalConfig is the role that shows pages to people. Without files of its own it has the
// certificate of the node.
type PortalConfig struct {
	Addr   string `key:"addr" check:"address"`
	URL    string `key:"url"`
	Prefix string `key:"prefix"`
	Cert   string `key:"cert" check:"path"`
	Key    string `key:"key" check:"path"`

	ACMEHosts     string `key:"acme_hosts"`
	ACMEDirectory string `key:"acme_directory"`
	ACMEEmail     string `key:"acme_email"`
	ACMEAgree     string `key:"acme_agree" check:"yes|no"`
	ACMECA        string `key:"acme_ca" check:"path"`

	TrustedNetworks string `key:"trusted_networks"`
}

// MailConfig is the mail server that takes mails of the role main.
type MailConfig struct {
	Host         string `key:"host"`
	Port         int    `key:"port" check:"0..65535"`
	Security     string `key:"security" check:"starttls|tls|off"`
	User         string `key:"user"`
	PasswordFile string `key:"password_file" check:"path"`
	CA           string `key:"ca" check:"path"`
	From         string `key:"from"`
}

// RedisConfig is where the pipeline's queue is if it is not a queue of the broker.
type RedisConfig struct {
	Addr                 string `key:"addr" check:"address|"`
	Sentinels            string `key:"sentinels"`
	Master               string `key:"master"`
	SentinelPasswordFile string `key:"sentinel_password_file" check:"path"`
	User                 string `key:"user"`
	Password             string `key:"password"`
	PasswordFile         string `key:"password_file" check:"path"`
	DB                   int    `key:"db" check:"0..1_000_000"`
	Queue                string `key:"queue"`
	TLS                  string `key:"tls" check:"on|off"`
	CA                   string `key:"ca" check:"path"`
	Cert                 string `key:"cert" check:"path"`
	Key                  string `key:"key" check:"path"`
}

// LogConfig is what is logged, how, and for how long. Logs go to standard error, and to files.
type LogConfig struct {
	Level    string `key:"level" check:"debug|info|warn|error"`
	Format   string `key:"format" check:"auto|text|json"`
	Folder   string `key:"folder" check:"path|off"`
	KeepDays int    `key:"keep_days" check:"1..36_500"`
}

// Validate reports every value that is not allowed and every contradiction, each with the
// name of its key. A value that is not allowed is reported once, and not as a contradiction too.
func (c *Config) Validate() error {
	var wrong, p problems
	reported := map[string]bool{}
	for _, f := range c.fields() {
		if err := allowed(f); err != nil {
			wrong.addf("%s: %w", f.key, err)
			reported[f.key] = true
		}
	}
	if c.Metrics.Addr == c.Server.Addr && !strings.HasSuffix(c.Server.Addr, ":0") {
		p.addf("metrics.addr: must differ from server.addr")
	}
	p = append(p, c.Alerts.check(c.Mail.Host != "")...)
	p = append(p, c.Redis.check()...)
	if _, err := backup.ParseSchedule(c.Backup.Schedule); err != nil {
		p.addf("backup.schedule: %w", err)
	}
	line := c.Server.MaxLineBytes
	if c.Server.MaxMemoryBytes < 16*line {
		p.addf("server.max_memory_bytes: must be at least 16 times server.max_line_bytes (%v)", line)
	}
	if c.Storage.SegmentBytes < 2*line {
		p.addf("storage.segment_bytes: must be at least twice server.max_line_bytes (%v)", line)
	}
	if c.Storage.MaxPendingBytes < 2*line {
		p.addf("storage.max_pending_bytes: must be at least twice server.max_line_bytes (%v)", line)
	}
	if t := c.TLS; (t.Cert == "") != (t.Key == "") || (t.Cert == "") != (t.CA == "") {
		p.addf("tls.cert, tls.key and tls.ca: must be set together")
	}
	if c.Portal.Addr == c.Main.Addr && !strings.HasSuffix(c.Main.Addr, ":0") {
		p.addf("portal.addr: must differ from main.addr")
	}
	if c.Main.PasswordFile != "" && !passwordFits(c.Main.Database) {
		p.addf("%w", errPasswordFile)
	}
	if (c.Portal.Cert == "") != (c.Portal.Key == "") {
		p.addf("portal.cert and portal.key: must be set together")
	}
	if c.Pipeline.Main != "" {
		if err := pipeline.CheckMainAddress(c.Pipeline.mainURL()); err != nil {
			p.addf("pipeline.main: %w", err)
		}
	}
	for _, at := range []struct{ key, networks string }{{"proxy.trusted_networks", c.Proxy.TrustedNetworks}, {"portal.trusted_networks", c.Portal.TrustedNetworks}} {
		if _, err := parseNetworks(at.networks); err != nil {
			p.addf("%s: %w", at.key, err)
		}
	}
	p = append(p, c.Portal.checkAddresses()...)
	p = append(p, c.Portal.checkACME()...)
	p = append(p, c.Mail.check()...)
	p = slices.DeleteFunc(p, func(err error) bool {
		key, _, _ := strings.Cut(err.Error(), ":")
		return reported[key]
	})
	return errors.Join(append(wrong, p...)...)
}
