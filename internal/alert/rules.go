package alert

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Limits are what is still all right.
type Limits struct {
	// OldestMessage is how long the first message of a queue may wait.
	OldestMessage time.Duration
	// Certificate is how long before its end a certificate must have been renewed, if that is less
	// than a third of its life.
	Certificate time.Duration
	// Revocations is how old the list of what is revoked may be.
	Revocations time.Duration
	// Refusals is how many logins, and how many certificates, may be refused in five minutes.
	Refusals int
}

// finding is what a rule finds. It is an alert if it is found for as long as hold.
type finding struct {
	Alert
	hold  time.Duration
	fatal bool // the process ends because of it
}

// sample is a value of a metric.
type sample struct {
	labels map[string]string
	value  float64
}

// samples are those of each name. Histograms are left out.
type samples map[string][]sample

func samplesOf(families []*dto.MetricFamily) samples {
	all := make(samples)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") {
			continue
		}
		for _, m := range f.GetMetric() {
			s := sample{labels: make(map[string]string, len(m.GetLabel()))}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				s.value = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				s.value = m.GetGauge().GetValue()
			default:
				continue
			}
			for _, l := range m.GetLabel() {
				s.labels[l.GetName()] = l.GetValue()
			}
			all[f.GetName()] = append(all[f.GetName()], s)
		}
	}
	return all
}

// sum adds up the values whose label is one of values.
func (s samples) sum(name, label string, values ...string) (sum float64) {
	for _, x := range s[name] {
		for _, v := range values {
			if x.labels[label] == v {
				sum += x.value
			}
		}
	}
	return sum
}

// judge finds what is wrong. It remembers counters for as long as their window.
type judge struct {
	limits Limits
	past   []counted
}

// counted is what was refused up to a time.
type counted struct {
	at                   time.Time
	logins, certificates float64
}

// window is how far back refusals are counted.
const window = 5 * time.Minute

// Names of rules are those of pages in docs/runbooks.
const (
	queueNotDrained         = "QueueNotDrained"
	deadLetters             = "DeadLetters"
	databaseDown            = "DatabaseDown"
	certificateExpiresSoon  = "CertificateExpiresSoon"
	revocationsStale        = "RevocationsStale"
	revocationListBroken    = "RevocationListBroken"
	diskLow                 = "DiskLow"
	unhealthy               = "Unhealthy"
	manyRefusedCertificates = "ManyRefusedCertificates"
	manyRefusedLogins       = "ManyRefusedLogins"
)

// downNames are the rules for a process of a role that is away.
var downNames = map[string]string{"worker": "WorkerDown", "proxy": "ProxyDown", "broker": "BrokerDown", "portal": "PortalDown"}

// Names are the names of all alerts.
func Names() []string {
	list := []string{queueNotDrained, deadLetters, databaseDown, certificateExpiresSoon, revocationsStale, revocationListBroken, diskLow, unhealthy,
		manyRefusedCertificates, manyRefusedLogins}
	for _, name := range downNames {
		list = append(list, name)
	}
	return list
}

// find judges one look.
func (j *judge) find(s samples, now time.Time) (list []finding) {
	add := func(hold time.Duration, severity Severity, name, subject, text string, args ...any) {
		list = append(list, finding{Alert: Alert{Name: name, Subject: subject, Severity: severity, Text: fmt.Sprintf(text, args...)}, hold: hold})
	}
	j.queues(s, now, add)
	for _, x := range s["sealmq_health_check"] {
		component, check := x.labels["component"], x.labels["check"]
		switch {
		case x.value < 2:
		case check == "database":
			add(time.Minute, Critical, databaseDown, "", "The main server cannot store messages: its database does not answer or has no room.")
		default:
			add(time.Minute, Critical, unhealthy, component+" "+check, "The check %q of the role %s fails.", check, component)
			list[len(list)-1].fatal = component == "broker" && check == "store"
		}
	}
	for _, x := range s["main_server_component_up"] {
		if role := x.labels["role"]; x.value == 0 && downNames[role] != "" {
			add(time.Minute, Critical, downNames[role], x.labels["name"], "The %s %s is away.", role, x.labels["name"])
		}
	}
	j.certificates(s, now, add)
	for _, x := range s["sealmq_disk_free_bytes"] {
		if least := s["sealmq_disk_min_free_bytes"]; x.value >= 0 && len(least) > 0 && x.value < 2*least[0].value {
			add(time.Minute, Critical, diskLow, "", "The disk of the data folder has %.0f MiB left. Below %.0f MiB the broker refuses messages.", x.value/(1<<20), least[0].value/(1<<20))
		}
	}
	j.refusals(s, now, add)
	return unique(list)
}

type adder func(hold time.Duration, severity Severity, name, subject, text string, args ...any)

// pipelineQueue is the queue of the pipeline, whatever keeps it.
const pipelineQueue = "message_queue"

func (j *judge) queues(s samples, now time.Time, add adder) {
	late := func(queue string, age time.Duration) {
		if age > j.limits.OldestMessage {
			add(time.Minute, Critical, queueNotDrained, queue, "The oldest message in the queue %s has waited for %v.", queue, age.Truncate(time.Minute))
		}
	}
	for _, x := range s["worker_oldest_message_age_seconds"] {
		late(pipelineQueue, time.Duration(x.value*float64(time.Second)))
	}
	consumed := make(map[string]bool)
	for _, x := range s["sealmq_queue_consumers"] {
		consumed[x.labels["queue"]] = x.value > 0
	}
	for _, x := range s["sealmq_queue_oldest_timestamp_seconds"] {
		// A queue without a consumer may be a mailbox; that of the pipeline is none.
		if queue := x.labels["queue"]; x.value > 0 && (queue == pipelineQueue || consumed[queue] && !isDead(queue)) {
			late(queue, now.Sub(time.Unix(int64(x.value), 0)))
		}
	}
	dead := func(queue string, n float64) {
		if n > 0 {
			add(0, Warning, deadLetters, queue, "%.0f messages were given up and wait in %s for a decision.", n, queue)
		}
	}
	dead(pipelineQueue+".dead", s.sum("worker_queue_depth", "queue", "dead"))
	for _, x := range s["sealmq_queue_ready_messages"] {
		if queue := x.labels["queue"]; isDead(queue) {
			dead(queue, x.value)
		}
	}
}

func isDead(queue string) bool { return strings.HasSuffix(queue, ".dead") }

func (j *judge) certificates(s samples, now time.Time, add adder) {
	limits := make(map[string]time.Duration) // by name of the certificate
	for _, x := range s["sealmq_certificate_lifetime_seconds"] {
		limits[x.labels["name"]] = time.Duration(x.value / 3 * float64(time.Second))
	}
	for _, x := range s["broker_certificate_expiry_timestamp_seconds"] {
		name, end := x.labels["name"], time.Unix(int64(x.value), 0)
		switch left := end.Sub(now); {
		case x.value == 0:
			add(time.Minute, Critical, certificateExpiresSoon, name, "The certificate of the role %s cannot be read.", name)
		case left <= 0:
			add(0, Critical, certificateExpiresSoon, name, "The certificate of the role %s expired on %s.", name, end.UTC().Format(time.DateOnly))
		case left < min(j.limits.Certificate, cmp.Or(limits[name], j.limits.Certificate)):
			add(time.Minute, Warning, certificateExpiresSoon, name, "The certificate of the role %s expires on %s.", name, end.UTC().Format(time.DateOnly))
		}
	}
	for _, x := range s["sealmq_revocations_age_seconds"] {
		if age := time.Duration(x.value * float64(time.Second)); age > j.limits.Revocations {
			add(0, Warning, revocationsStale, "", "The main server last said %v ago what is revoked.", age.Truncate(time.Minute))
		}
	}
	for _, x := range s["sealmq_revocation_list_problems"] {
		if x.value > 0 {
			add(time.Minute, Critical, revocationListBroken, "", "%.0f files or lines of revocations are not in force.", x.value)
		}
	}
}

// refusals compares with what was counted before the window.
func (j *judge) refusals(s samples, now time.Time, add adder) {
	c := counted{at: now, certificates: s.sum("proxy_messages_failed_total", "reason", "invalid_certificate", "revoked") +
		s.sum("sealmq_server_connections_refused_total", "reason", "certificate", "revoked", "identity")}
	c.logins = s.sum("main_server_logins_total", "result", "refused", "locked")
	for len(j.past) > 1 && now.Sub(j.past[1].at) >= window {
		j.past = j.past[1:]
	}
	if len(j.past) > 0 && j.past[0].at.After(now) { // the clock was set back
		j.past = nil
	}
	j.past = append(j.past, c)
	first := j.past[0]
	if n := c.logins - first.logins; n > float64(j.limits.Refusals) {
		add(0, Warning, manyRefusedLogins, "", "%.0f logins were refused in five minutes.", n)
	}
	if n := c.certificates - first.certificates; n > float64(j.limits.Refusals) {
		add(0, Warning, manyRefusedCertificates, "", "%.0f requests and connections were refused in five minutes because of their certificate.", n)
	}
}

// unique leaves out what several roles of a node find alike.
func unique(list []finding) []finding {
	seen := make(map[key]bool)
	kept := list[:0]
	for _, f := range list {
		if k := f.key(); !seen[k] {
			seen[k] = true
			kept = append(kept, f)
		}
	}
	return kept
}
