package mainserver

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
)

func queueWith(name string, ready int) (q brokerview.Queue) {
	q.Name, q.Ready = name, ready
	return q
}

// TestAttention: what is wrong is said in words, the worst first.
func TestAttention(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 15, 30, 0, time.UTC)
	worker := Component{Role: mainapi.ComponentRoleWorker, Name: "w-1", State: mainapi.ComponentStateOnline}
	away := Component{Role: mainapi.ComponentRoleProxy, Name: "host-2", State: mainapi.ComponentStateAway}
	minute := func(ago time.Duration, delivered, failed int64) records.Minute {
		return records.Minute{At: records.MinuteOf(now.Add(-ago)), Delivered: delivered, Failed: failed}
	}
	ends := func(name string, in time.Duration) mainapi.EndingCertificate {
		return mainapi.EndingCertificate{Name: name, Fingerprint: "00", ExpiresAt: now.Add(in)}
	}
	old := func(name string, ready int, age time.Duration) brokerview.Queue {
		q := queueWith(name, ready)
		q.Oldest = now.Add(-age)
		return q
	}
	const notSent, flows = "Everything is ready; no message was sent yet", "Everything flows"
	for name, tc := range map[string]struct {
		facts facts
		fresh bool // nothing was ever sent
		state mainapi.Level
		says  string
		want  []string
	}{
		"first start":       {facts{counts: &pipeline.Counts{}}, true, "healthy", notSent, nil},
		"all is well":       {facts{counts: &pipeline.Counts{Ready: 3, Oldest: now.Add(-time.Second)}, components: []Component{worker}}, false, "healthy", flows, nil},
		"queue silent":      {facts{faults: []httpkit.Fault{{Check: "redis", Finding: httpkit.Finding{Level: httpkit.Degraded, Reason: "the queue cannot be reached"}}}}, false, "degraded", "The queue cannot be reached", []string{"queue degraded The queue cannot be reached"}},
		"no worker":         {facts{counts: &pipeline.Counts{Ready: 1412, Oldest: now.Add(-time.Minute)}}, false, "unhealthy", "No worker runs, and 1,412 messages wait", []string{"no_worker unhealthy No worker runs, and 1,412 messages wait"}},
		"worker comes":      {facts{counts: &pipeline.Counts{Ready: 1, Oldest: now.Add(-time.Second)}}, false, "healthy", flows, nil},
		"worker holds some": {facts{counts: &pipeline.Counts{Ready: 1, Processing: 1, Oldest: now.Add(-time.Minute)}}, false, "healthy", flows, nil},
		"only retries, and no worker that is known": {facts{counts: &pipeline.Counts{Retry: 1, Oldest: now.Add(-time.Minute)}}, false, "healthy", flows, nil},
		"nothing delivered": {facts{counts: &pipeline.Counts{Ready: 1, Retry: 1, Oldest: now.Add(-3 * time.Minute)}, components: []Component{worker}, minutes: []records.Minute{minute(4*time.Minute, 9, 0)}}, false,
			"unhealthy", "Nothing is being delivered, and 2 messages wait", []string{"not_delivering unhealthy Nothing is being delivered, and 2 messages wait"}},
		"delivered lately": {facts{counts: &pipeline.Counts{Ready: 2, Oldest: now.Add(-3 * time.Minute)}, components: []Component{worker}, minutes: []records.Minute{minute(time.Minute, 9, 0)}}, false, "healthy", flows, nil},
		"slow": {facts{counts: &pipeline.Counts{Ready: 1, Oldest: now.Add(-6 * time.Minute)}, components: []Component{worker}, minutes: []records.Minute{minute(0, 9, 0)}}, false,
			"degraded", "Messages are delivered more slowly than they come: 1 message waits", []string{"slow degraded Messages are delivered more slowly than they come: 1 message waits"}},
		"a few failed": {facts{minutes: []records.Minute{minute(0, 900, 9)}}, false, "healthy", flows, []string{"messages_failed notice 9 messages failed in the last hour"}},
		"many failed":  {facts{minutes: []records.Minute{minute(0, 90, 10)}}, false, "degraded", "10 messages failed in the last hour", []string{"messages_failed degraded 10 messages failed in the last hour"}},
		"dead letters": {facts{counts: &pipeline.Counts{Dead: 1}}, false, "healthy", flows, []string{"dead_letters notice 1 message was given up and is a dead letter"}},
		"disk low":     {facts{disk: &mainapi.Disk{FreeBytes: 9, TotalBytes: 100}}, false, "degraded", "The disk of the data folder fills up: 9 % are free", []string{"disk_low degraded The disk of the data folder fills up: 9 % are free"}},
		"disk full":    {facts{disk: &mainapi.Disk{FreeBytes: 2, TotalBytes: 100}}, false, "unhealthy", "The disk of the data folder is almost full: 2 % are free", []string{"disk_low unhealthy The disk of the data folder is almost full: 2 % are free"}},
		"large disk":   {facts{disk: &mainapi.Disk{FreeBytes: 30 << 30, TotalBytes: 2 << 40}}, false, "healthy", flows, nil},
		"disk unknown": {facts{disk: &mainapi.Disk{}}, false, "healthy", flows, nil},
		"certificates": {facts{ending: []mainapi.EndingCertificate{ends("a", 90*time.Minute), ends("b", 6*24*time.Hour), ends("c", 24*time.Hour)}}, false, "healthy", flows,
			[]string{"certificate_ends notice The certificate of a ends in 1 hour", "certificate_ends notice The certificate of b ends in 6 days", "certificate_ends notice The certificate of c ends in 1 day"}},
		"queues": {facts{growing: []brokerview.Queue{queueWith("results", 412), queueWith("short", 9)}, dead: []brokerview.Queue{queueWith("results.dead", 14), queueWith("message_queue.dead", 3), queueWith("none.dead", 0)}}, false, "healthy", flows,
			[]string{"queue_grows notice Queue results grows: 412 messages wait", "queue_dead_letters notice Queue results.dead has 14 dead letters"}},
		"queues that nobody consumes": {facts{idle: []brokerview.Queue{old("old", 6, 2*time.Hour), old("older", 1, 26*time.Hour), old("young", 6, time.Minute), old("message_queue", 6, time.Hour), old("old.dead", 6, time.Hour)}}, false, "healthy", flows,
			[]string{"queue_idle notice Queue old has no consumer: 6 messages wait, the oldest for 2 hours", "queue_idle notice Queue older has no consumer: 1 message waits, the oldest for 1 day"}},
		"paused queues": {facts{paused: []brokerview.Queue{queueWith("results", 4), queueWith("empty", 0), queueWith("message_queue", 1)}}, false, "degraded", "Queue message_queue is paused: 1 message waits",
			[]string{"queue_paused degraded Queue message_queue is paused: 1 message waits", "queue_paused notice Queue results is paused: 4 messages wait"}},
		"paused for long": {facts{counts: &pipeline.Counts{Ready: 2, Oldest: now.Add(-3 * time.Minute)}, components: []Component{worker}, paused: []brokerview.Queue{queueWith("message_queue", 2)}}, false,
			"unhealthy", "Queue message_queue is paused: 2 messages wait", []string{"queue_paused unhealthy Queue message_queue is paused: 2 messages wait"}},
		"worst first": {facts{counts: &pipeline.Counts{Dead: 2}, components: []Component{away, worker}, faults: []httpkit.Fault{{Check: "database", Finding: httpkit.Finding{Level: httpkit.Down, Reason: "the database cannot be reached"}}}}, false,
			"unhealthy", "The database cannot be reached", []string{"database unhealthy The database cannot be reached", "component_away degraded Proxy host-2 is away", "dead_letters notice 2 messages were given up and are dead letters"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.facts.now = now
			list := tc.facts.judge()
			var got []string
			for _, a := range list {
				got = append(got, fmt.Sprint(a.Code, " ", a.Level, " ", a.Text))
			}
			if state, says := summarise(list, mainapi.Started{Accepted: !tc.fresh}); state != tc.state || says != tc.says || !slices.Equal(got, tc.want) {
				t.Errorf("%s: %s\n%q\nwant %s: %s\n%q", state, says, got, tc.state, tc.says, tc.want)
			}
		})
	}
	many := facts{now: now}
	for range 200 {
		many.components = append(many.components, away)
	}
	if n := len(many.judge()); n != maxAttention {
		t.Errorf("%d things need attention, want at most %d", n, maxAttention)
	}
}

// TestPresence: who is there, who has gone, and who was only started again.
func TestPresence(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 15, 30, 0, time.UTC)
	s := &Service{cfg: Config{Now: func() time.Time { return now }}}
	p := &s.presence
	comp := func(role, node, address string) []Component {
		return componentsOf("cert", "worker", address+":4711", &mainapi.GetRevocationsParams{Node: node, Roles: role})
	}
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, c := range p.all(now) {
			got = append(got, fmt.Sprint(c.Role, " ", c.Name, " ", c.State))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	s.Here(Component{Role: mainapi.ComponentRoleBroker, Name: "main-host"})
	p.saw(comp("proxy,worker", "w-1", "192.0.2.1"), true, now)
	p.saw(comp("", "w-2", "192.0.2.2"), false, now)
	p.saw(comp("admin,nothing", "x", "192.0.2.3"), false, now)
	p.saw(comp("worker", "a\nb\x00", "192.0.2.4"), false, now)
	check("at first", "broker main-host online", "proxy w-1 online", "worker ab online", "worker w-1 online", "worker w-2 online")
	p.left(comp("worker", "ab", "192.0.2.4"))
	now = now.Add(31 * time.Second)
	check("one waits for an answer, another one is silent", "broker main-host online", "proxy w-1 online", "worker w-1 online", "worker w-2 away")
	p.answered(comp("proxy,worker", "w-1", "192.0.2.1"), true, now)
	now = now.Add(4 * time.Second)
	check("a connection was lost just now", "broker main-host online", "proxy w-1 online", "worker w-1 online", "worker w-2 away")
	now = now.Add(2 * time.Second)
	check("it did not come back", "broker main-host online", "proxy w-1 away", "worker w-1 away", "worker w-2 away")
	p.saw(comp("worker", "w-3", "192.0.2.1"), false, now)
	check("a worker was started in the place of the one that went", "broker main-host online", "proxy w-1 away", "worker w-2 away", "worker w-3 online")
	p.answered(comp("worker", "gone", "192.0.2.1"), true, now)
	p.left(comp("broker", "main-host", "192.0.2.1"))
	now = now.Add(25 * time.Hour)
	p.saw(comp("worker", "w-4", "192.0.2.9"), false, now)
	check("a day later", "broker main-host online", "worker w-4 online")
	for i := range 2 * maxPresent {
		p.saw(comp("worker", fmt.Sprint("many-", i), "192.0.2.9"), false, now)
	}
	if n := len(p.all(now)); n != maxPresent {
		t.Errorf("%d components, want at most %d", n, maxPresent)
	}
}

// TestPresenceSince: a process is there since it was started, also for a main server that was
// started later.
func TestPresenceSince(t *testing.T) {
	var p presence
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	worker := Component{Role: mainapi.ComponentRoleWorker, Name: "w-1", Host: "host-1", Since: now.Add(-time.Hour)}
	ahead := Component{Role: mainapi.ComponentRoleProxy, Name: "p-1", Since: now.Add(time.Hour)}
	p.saw([]Component{worker, ahead}, false, now)
	p.saw([]Component{{Role: worker.Role, Name: worker.Name}}, false, now.Add(time.Second)) // it delivers
	list := p.all(now.Add(time.Second))
	if len(list) != 2 || !list[0].Since.Equal(now) || !list[1].Since.Equal(worker.Since) || list[1].Host != "host-1" {
		t.Errorf("%+v", list)
	}
	worker.Since = now.Add(time.Minute) // it was started again under its name
	p.saw([]Component{worker}, false, now.Add(2*time.Minute))
	if list = p.all(now.Add(2 * time.Minute)); !list[1].Since.Equal(worker.Since) {
		t.Errorf("%+v", list)
	}
}
