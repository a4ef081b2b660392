package mainserver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
)

// facts are what the state of everything is judged by.
type facts struct {
	now        time.Time
	faults     []httpkit.Fault
	counts     *pipeline.Counts // nil if the queue does not answer
	minutes    []records.Minute // of the last hour
	components []Component
	ending     []mainapi.EndingCertificate
	disk       *mainapi.Disk
	growing    []brokerview.Queue // of the broker, the longest first
	idle       []brokerview.Queue // with messages and no consumer
	paused     []brokerview.Queue
	dead       []brokerview.Queue // with dead letters
}

// Bounds of what is all right.
const (
	// patient is how long messages may wait without one being delivered.
	patient = 2 * time.Minute
	// slowAfter is how old the oldest waiting message may be.
	slowAfter = 5 * time.Minute
	// startsWithin is how long a worker may take to come for what waits.
	startsWithin = 10 * time.Second
	// diskLow and diskFull are shares of the disk that are free, with what is enough whatever the
	// share is.
	diskLow, diskFull      = 0.10, 0.03
	roomEnough, roomLittle = 20 << 30, 5 << 30
	// manyFailed and failedShare together say when failures are more than a few bad messages.
	manyFailed, failedShare = 10, 0.05
	// manyWait is how many messages a queue that grows has before it is worth a word.
	manyWait = 100
	// idleFor is how long a message may wait in a queue of the broker that nobody consumes.
	idleFor = 10 * time.Minute
	// maxAttention bounds the list, maxEnding the certificates in it, and maxQueues the queues
	// of each kind.
	maxAttention, maxEnding, maxQueues = 50, 5, 5
)

// codeOf is the code for what a check of the health has found.
func codeOf(check string) string {
	if check == "redis" { // the design documents' name
		return "queue"
	}
	return check
}

// Codes of what needs attention, besides those of the health's checks.
const (
	codeNoWorker     = "no_worker"
	codeNotDelivered = "not_delivering"
	codeSlow         = "slow"
	codeAway         = "component_away"
	codeFailed       = "messages_failed"
	codeDead         = "dead_letters"
	codeGrows        = "queue_grows"
	codeIdle         = "queue_idle"
	codePaused       = "queue_paused"
	codeQueueDead    = "queue_dead_letters"
	codeEnds         = "certificate_ends"
	codeDisk         = "disk_low"
)

// judge says what needs attention, the worst first. Since is not filled in.
func (f *facts) judge() []mainapi.Attention {
	var list []mainapi.Attention
	add := func(code string, level mainapi.AttentionLevel, subject, format string, args ...any) {
		list = append(list, mainapi.Attention{Code: code, Level: level, Subject: subject, Text: fmt.Sprintf(format, args...)})
	}
	for _, p := range f.faults {
		add(codeOf(p.Check), mainapi.AttentionLevel(p.Level.String()), "", "%s", sentence(p.Reason))
	}
	f.judgeFlow(add)
	for _, c := range f.components {
		if c.State == mainapi.ComponentStateAway {
			add(codeAway, mainapi.AttentionLevelDegraded, c.Name, "%s is away", sentence(string(c.Role)+" "+c.Name))
		}
	}
	if d := f.disk; d != nil && d.TotalBytes > 0 {
		switch free := float64(d.FreeBytes) / float64(d.TotalBytes); {
		case free < diskFull && d.FreeBytes < roomLittle:
			add(codeDisk, mainapi.AttentionLevelUnhealthy, "", "The disk of the data folder is almost full: %d %% are free", int(100*free))
		case free < diskLow && d.FreeBytes < roomEnough:
			add(codeDisk, mainapi.AttentionLevelDegraded, "", "The disk of the data folder fills up: %d %% are free", int(100*free))
		}
	}
	for _, q := range f.growing {
		if q.Ready >= manyWait {
			add(codeGrows, mainapi.AttentionLevelNotice, q.Name, "Queue %s grows: %s", q.Name, waiting(int64(q.Ready)))
		}
	}
	for _, q := range f.idle {
		if age := f.now.Sub(q.Oldest); q.Ready > 0 && !q.Oldest.IsZero() && age > idleFor && q.Name != pipeline.QueueName && brokerview.DeadLettersOf(q.Name) == "" {
			add(codeIdle, mainapi.AttentionLevelNotice, q.Name, "Queue %s has no consumer: %s, the oldest for %s", q.Name, waiting(int64(q.Ready)), ageText(age))
		}
	}
	for _, q := range f.paused {
		level := mainapi.AttentionLevelNotice
		switch {
		case isPipelines(q) && f.stuck():
			level = mainapi.AttentionLevelUnhealthy
		case isPipelines(q):
			level = mainapi.AttentionLevelDegraded
		}
		if q.Ready > 0 {
			add(codePaused, level, q.Name, "Queue %s is paused: %s", q.Name, waiting(int64(q.Ready)))
		}
	}
	for _, q := range f.dead {
		if brokerview.DeadLettersOf(q.Name) != pipeline.QueueName && q.Ready > 0 {
			add(codeQueueDead, mainapi.AttentionLevelNotice, q.Name, "Queue %s has %s", q.Name, plural(int64(q.Ready), "dead letter", "dead letters"))
		}
	}
	for i, c := range f.ending {
		if i == maxEnding {
			break
		}
		add(codeEnds, mainapi.AttentionLevelNotice, c.Fingerprint, "The certificate of %s ends in %s", c.Name, days(c.ExpiresAt.Sub(f.now)))
	}
	order := []mainapi.AttentionLevel{mainapi.AttentionLevelUnhealthy, mainapi.AttentionLevelDegraded, mainapi.AttentionLevelNotice}
	slices.SortStableFunc(list, func(a, b mainapi.Attention) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	return list[:min(len(list), maxAttention)]
}

func isPipelines(q brokerview.Queue) bool { return q.Name == pipeline.QueueName }

// stuck reports whether messages have waited for long, and none was delivered meanwhile.
func (f *facts) stuck() bool {
	c := f.counts
	if c == nil || c.Ready+c.Retry == 0 || c.Oldest.IsZero() || f.now.Sub(c.Oldest) <= patient {
		return false
	}
	return !slices.ContainsFunc(f.minutes, func(m records.Minute) bool { return m.Delivered > 0 && !m.At.Before(f.now.Add(-patient)) })
}

// judgeFlow judges whether messages flow.
func (f *facts) judgeFlow(add func(code string, level mainapi.AttentionLevel, subject, format string, args ...any)) {
	var sum mainapi.Totals
	for _, m := range f.minutes {
		sum.Delivered, sum.Failed = sum.Delivered+m.Delivered, sum.Failed+m.Failed
	}
	if c := f.counts; c != nil {
		waits := int64(c.Ready + c.Retry)
		age := time.Duration(0)
		if !c.Oldest.IsZero() {
			age = f.now.Sub(c.Oldest)
		}
		worker := c.Processing > 0 || slices.ContainsFunc(f.components, func(c Component) bool {
			return c.Role == mainapi.ComponentRoleWorker && c.State == mainapi.ComponentStateOnline
		})
		switch {
		case c.Ready > 0 && !worker && age > startsWithin:
			add(codeNoWorker, mainapi.AttentionLevelUnhealthy, "", "No worker runs, and %s", waiting(waits))
		case f.stuck() && slices.ContainsFunc(f.paused, isPipelines): // which says why
		case f.stuck():
			add(codeNotDelivered, mainapi.AttentionLevelUnhealthy, "", "Nothing is being delivered, and %s", waiting(waits))
		case age > slowAfter:
			add(codeSlow, mainapi.AttentionLevelDegraded, "", "Messages are delivered more slowly than they come: %s", waiting(waits))
		}
		if c.Dead > 0 {
			add(codeDead, mainapi.AttentionLevelNotice, pipeline.QueueName, "%s", plural(int64(c.Dead), "message was given up and is a dead letter", "messages were given up and are dead letters"))
		}
	}
	if sum.Failed > 0 {
		level := mainapi.AttentionLevelNotice
		if sum.Failed >= manyFailed && float64(sum.Failed) > failedShare*float64(sum.Delivered+sum.Failed) {
			level = mainapi.AttentionLevelDegraded
		}
		add(codeFailed, level, "", "%s in the last hour", plural(sum.Failed, "message failed", "messages failed"))
	}
}

// sentence begins with a capital letter.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

func waiting(n int64) string { return plural(n, "message waits", "messages wait") }

func plural(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + more
}

// number has a comma after each three digits.
func number(n int64) string {
	s := fmt.Sprint(n)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func days(d time.Duration) string {
	switch n := int64(d / (24 * time.Hour)); {
	case d < 0:
		return "the past"
	case n > 0:
		return plural(n, "day", "days")
	}
	return plural(max(1, int64(d/time.Hour)), "hour", "hours")
}

// ageText is how long something has lasted, in its largest unit.
func ageText(d time.Duration) string {
	if d < time.Hour {
		return plural(int64(d/time.Minute), "minute", "minutes")
	}
	return days(d)
}

// summarise is the state in a sentence.
func summarise(list []mainapi.Attention, started mainapi.Started) (mainapi.Level, string) {
	if len(list) == 0 || list[0].Level == mainapi.AttentionLevelNotice {
		if !started.Accepted {
			return mainapi.LevelHealthy, "Everything is ready; no message was sent yet"
		}
		return mainapi.LevelHealthy, "Everything flows"
	}
	return mainapi.Level(list[0].Level), list[0].Text
}
