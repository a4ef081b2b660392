package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// documentName is a name that the design documents of the pipeline give to a setting: as a
// variable of the environment, and in the files proxy/config.yaml and worker/config.yaml.
type documentName struct {
	env, yaml string
	key       string // the setting of SealMQ; empty if there is none
	part      string // host or port, if the setting is an address of both
	base      string // what the other half comes from if the setting has no default
	convert   func(string) (string, error)
	live      bool   // the variable works as it is; others are carried over by "sealmq config import"
	unread    bool   // no program ever read it
	say       string // what to do, if there is no setting
}

const (
	sayCertificate = `not carried over: the first start makes certificates for its listeners; "Take over an authority made by openssl" in the documentation says what to copy`
	sayUnread      = "nothing reads it"
	sayJSON        = "set log.format to json for logs that programs read"
	sayDatabase    = "set DATABASE_URL or main.database"
	sayReported    = "not needed: a proxy reports to the main server"
	sayKey         = "\"sealmq database adopt\" takes it over, with the database"
)

// documentNames is the one table of these names. docs/config.md shows it.
var documentNames = []documentName{
	{env: "LOG_LEVEL", yaml: "logging.level", key: "log.level", convert: levelName, live: true},
	{env: "DATABASE_URL", key: "main.database", live: true},
	{env: "WORKER_ID", key: "worker.name", live: true},
	{env: "REDIS_HOST", yaml: "redis.host", key: "redis.addr", part: "host", base: "localhost:6379", live: true},
	{env: "REDIS_PORT", yaml: "redis.port", key: "redis.addr", part: "port", base: "localhost:6379", live: true},
	{env: "REDIS_DB", yaml: "redis.db", key: "redis.db", live: true},
	{env: "REDIS_USERNAME", key: "redis.user", live: true},
	{env: "REDIS_PASSWORD", yaml: "redis.password", key: "redis.password", live: true},
	{env: "REDIS_QUEUE_NAME", yaml: "redis.queue_name", key: "redis.queue", live: true},
	{env: "REDIS_TLS", key: "redis.tls", convert: onOrOff, live: true},
	{env: "ADMIN_USER", live: true, say: "works as it is: with ADMIN_PASS it makes the first administrator"},
	{env: "ADMIN_PASS", live: true, say: "works as it is; the password must be changed at the first login"},
	{env: "JWT_SECRET", live: true, say: "works as it is; without it a secret is made and kept in the data folder"},
	{env: "JWT_ALGORITHM", say: "the algorithm is always HS256"},
	{env: "JWT_EXPIRE_MINUTES", say: "access tokens are good for 15 minutes"},
	{env: "JWT_EXPIRATION_HOURS", say: "access tokens are good for 15 minutes"},
	{env: "JWT_REFRESH_EXPIRATION_DAYS", say: "logins of programs end after 30 days"},

	{env: "LOG_FILE_PATH", key: "log.folder"},
	{yaml: "logging.file", key: "log.folder", convert: folderOf},
	{env: "LOG_ROTATION_DAYS", yaml: "logging.rotation.backup_count", key: "log.keep_days"},
	{env: "CRL_PATH", key: "tls.revoked"},
	{env: "MAIN_SERVER_HOST", key: "main.addr", part: "host"},
	{env: "MAIN_SERVER_PORT", key: "main.addr", part: "port"},
	{env: "PROXY_HOST", yaml: "server.host", key: "proxy.addr", part: "host"},
	{env: "PROXY_PORT", yaml: "server.port", key: "proxy.addr", part: "port"},
	{env: "PORTAL_HOST", key: "portal.addr", part: "host"},
	{env: "PORTAL_PORT", key: "portal.addr", part: "port"},
	{env: "PORTAL_URL", key: "portal.url"},
	{env: "MAIN_SERVER_URL", yaml: "main_server.url", key: "pipeline.main"},
	{env: "SMTP_HOST", key: "mail.host"},
	{env: "SMTP_PORT", key: "mail.port"},
	{env: "SMTP_USER", key: "mail.user"},
	{env: "SMTP_PASSWORD", key: "mail.password_file"},
	{env: "SMTP_FROM", key: "mail.from"},
	{env: "SESSION_MAX_AGE", key: "main.session_idle", convert: seconds},
	{env: "LOGIN_MAX_FAILURES", key: "main.login_max_failures"},
	{env: "LOGIN_LOCK_MINUTES", key: "main.login_lock", convert: minutes},
	{env: "WORKER_CONCURRENCY", yaml: "worker.concurrency", key: "worker.concurrency"},
	{env: "WORKER_RETRY_INTERVAL", yaml: "worker.retry_interval", key: "worker.retry_interval", convert: seconds},
	{env: "WORKER_MAX_ATTEMPTS", yaml: "worker.max_attempts", key: "worker.max_attempts"},
	{env: "WORKER_BATCH_SIZE", yaml: "worker.batch_size", key: "worker.batch"},
	{env: "WORKER_METRICS_ENABLED", yaml: "metrics.enabled", key: "worker.addr", convert: offIfFalse},
	{env: "WORKER_METRICS_PORT", yaml: "metrics.port", key: "worker.addr", part: "port"},
	{yaml: "validation.phone_number.min_length", key: "pipeline.min_number"},
	{yaml: "validation.message_body.max_length", key: "pipeline.max_body"},
	{yaml: "validation.max_message_length", key: "pipeline.max_body"},
	{yaml: "validation.max_body_length", key: "pipeline.max_body"},
	{yaml: "rate_limiting.enabled", key: "proxy.rate", convert: unlimitedIfFalse},
	{yaml: "rate_limiting.max_requests", say: "set proxy.rate, which is for a second and for each client"},
	{yaml: "rate_limiting.window_seconds", say: "proxy.rate is always for a second"},
	{yaml: "rate_limiting.per_client", say: "proxy.rate is always for each client"},
	{yaml: "exceptions", say: `make a key for each with "sealmq apikey issue"`},

	{env: "CA_CERT_PATH", yaml: "tls.ca_file", say: sayCertificate},
	{env: "CA_KEY_PATH", say: sayCertificate},
	{env: "SERVER_CERT_PATH", yaml: "tls.cert_file", say: sayCertificate},
	{env: "SERVER_KEY_PATH", yaml: "tls.key_file", say: sayCertificate},
	{env: "WORKER_CERT_PATH", say: sayCertificate},
	{env: "WORKER_KEY_PATH", say: sayCertificate},
	{env: "AES_KEY_PATH", say: sayKey},
	{env: "ENCRYPTION_KEY_PATH", say: sayKey},
	{env: "HASH_SALT", say: sayKey},
	{env: "SESSION_SECRET", say: "not needed: sessions are kept in the database"},
	{env: "DB_HOST", say: sayDatabase},
	{env: "DB_PORT", say: sayDatabase},
	{env: "DB_NAME", say: sayDatabase},
	{env: "DB_USER", say: sayDatabase},
	{env: "DB_PASSWORD", say: sayDatabase},
	{env: "PROXY_URL", say: sayReported},
	{env: "PROXY_URLS", say: sayReported},
	{env: "TRUSTED_PROXIES", say: "set proxy.trusted_networks and portal.trusted_networks"},
	{env: "DATABASE_POOL_SIZE", say: "not needed: the pool of connections has a fixed limit"},
	{env: "DATABASE_MAX_OVERFLOW", say: "not needed: the pool of connections has a fixed limit"},
	{env: "ENVIRONMENT", say: "there are no modes: the safe choice always holds"},
	{env: "LOG_FORMAT", yaml: "logging.format", say: sayJSON},
	{env: "MESSAGES_PER_PAGE", say: "the portal's pages have a fixed length"},
	{env: "METRICS_ENABLED", say: "metrics are always there; metrics.addr and worker.addr can be off"},
	{env: "MAIN_SERVER_VERIFY_SSL", say: "the main server's certificate is always checked"},
	{env: "TLS_ENABLED", yaml: "tls.enabled", say: "TLS is always on"},
	{env: "TLS_CLIENT_AUTH", say: "proxy and main server ask for a certificate and check the one that is shown; the portal asks for none"},
	{env: "TLS_REVOKED_ACTION", say: "a request with a revoked certificate is answered with 403"},
	{env: "CRL_FAIL_CLOSED", say: "always so: see ca.stale_close"},
	{env: "CRL_MAX_AGE", say: "set ca.stale_close"},
	{yaml: "tls.verify_client", say: "certificates of clients are always checked"},
	{yaml: "server.workers", say: "one process uses all processors"},
	{yaml: "worker.poll_interval", say: "a worker gets messages as soon as they are there"},

	{env: "WORKER_COUNT", say: sayUnread, unread: true},
	{env: "WORKER_THREADS_PER_PROCESS", say: sayUnread, unread: true},
	{env: "WORKER_RETRY_INTERVAL_SECONDS", say: sayUnread + "; the name is WORKER_RETRY_INTERVAL", unread: true},
	{env: "REDIS_MAX_CONNECTIONS", say: sayUnread, unread: true},
	{env: "METRICS_PORT", say: sayUnread + "; set worker.addr", unread: true},
	{env: "MAINTENANCE_MODE", say: sayUnread, unread: true},
	{env: "PRIMARY_DOMAIN", say: sayUnread, unread: true},
}

// put adds the setting that a value stands for. The other half of an address comes from what is
// there, or from the default.
func (n documentName) put(values map[string]any, text string) error {
	if n.convert != nil {
		converted, err := n.convert(text)
		if err != nil || converted == "" {
			return err
		}
		text = converted
	}
	if n.part == "" {
		values[n.key] = text
		return nil
	}
	addr, ok := values[n.key].(string)
	if !ok {
		addr = cmp.Or(defaultConfig().field(n.key).value.String(), n.base)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil // "off" stays
	}
	if n.part == "host" {
		host = text
	} else if port = text; strings.Contains(port, "://") {
		return errors.New("it is no port, but what Kubernetes says about a service")
	}
	values[n.key] = net.JoinHostPort(host, port)
	return nil
}

func levelName(s string) (string, error) {
	switch name := strings.ToLower(s); name {
	case "debug", "info", "warn", "error":
		return name, nil
	case "warning":
		return "warn", nil
	case "critical":
		return "error", nil
	}
	return "", fmt.Errorf("%q is no level of a log", s)
}

func seconds(s string) (string, error) { return numberOf(s, time.Second, "seconds") }
func minutes(s string) (string, error) { return numberOf(s, time.Minute, "minutes") }

func numberOf(s string, unit time.Duration, units string) (string, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0 && n < 1e8) {
		return "", fmt.Errorf("%q is no number of %s", s, units)
	}
	return time.Duration(n * float64(unit)).String(), nil
}

// folderOf is the folder of a log file: the files in it have names of their own.
func folderOf(s string) (string, error) {
	i := strings.LastIndexAny(s, `/\`)
	if i < 0 {
		return ".", nil
	}
	return s[:max(i, 1)], nil
}

func offIfFalse(s string) (string, error)       { return ifFalse(s, "off") }
func unlimitedIfFalse(s string) (string, error) { return ifFalse(s, "-1") }

// onOrOff is for a switch.
func onOrOff(s string) (string, error) {
	text, err := ifFalse(s, "off")
	return cmp.Or(text, "on"), err
}

func ifFalse(s, value string) (string, error) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on":
		return "", nil
	case "false", "0", "no", "off":
		return value, nil
	}
	return "", fmt.Errorf("%q is neither true nor false", s)
}
