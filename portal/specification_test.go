package portal

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// A specified page is a row of specification 10.2.
type specified struct {
	row string // as the specification names the page
	// path is where the product has it, with the query of an example.
	path string
	// who gets 200. Everybody else who is logged in gets 403, and without a login a way to one.
	who []sealmq.Role
	// status is what all get, if it is the same for all; 0 otherwise.
	status int
	// to is where a page leads that shows nothing itself, by role.
	to map[sealmq.Role]string
	// shows are texts of the page.
	shows string
	// can are patterns of what can be done, with who may.
	can map[string][]sealmq.Role
	// proofs are tests of what the table cannot show, here or with a browser.
	proofs string
}

// anybody is a visitor without a login too.
var anybody = append([]sealmq.Role{""}, everybody...)

// specifiedPages are the rows of specification 10.2 in its order. docs/portal.md says where the
// product's paths and rules differ.
var specifiedPages = []specified{
	{row: "GET /", path: "/", to: map[sealmq.Role]string{"": "/login", admin: "/admin/dashboard", operator: "/admin/dashboard", userManager: "/admin/users", user: "/messages"}},
	{row: "GET/POST /login", path: "/login", who: []sealmq.Role{""}, shows: "E-mail address|Password|Forgotten your password?", can: map[string][]sealmq.Role{"/login": nil},
		proofs: "TestLogin TestLoginAndLockout TestNextStaysHere TestSecondFactor"},
	{row: "GET /logout", path: "/logout", who: anybody, shows: "Log out", can: map[string][]sealmq.Role{"/logout": nil}, proofs: "TestSessionEnds TestSecondFactor"},
	{row: "GET/POST /forgot-password", path: "/forgot-password", who: anybody, shows: "E-mail address", can: map[string][]sealmq.Role{"/forgot-password": nil}, proofs: "TestResetByMail"},
	{row: "GET /reset-password", path: "/reset-password?token=t", who: anybody, shows: "New password|Once more", can: map[string][]sealmq.Role{"/reset-password": nil}, proofs: "TestResetByMail"},
	{row: "GET /dashboard", path: "/dashboard", to: map[sealmq.Role]string{"": "/login?next=%2Fdashboard", admin: "/admin/dashboard", operator: "/admin/dashboard", userManager: "/admin/users", user: "/messages"}},
	{row: "GET /dashboard: own messages", path: "/messages?status=failed&from=2026-11-01&to=2026-11-30&domain=shop", who: everybody, shows: "Failed|491****0000|1 found|Attempts|Accepted",
		can: map[string][]sealmq.Role{"/messages/find": everybody}, proofs: "TestMessagesList TestNumbersStandInNoAddress TestFindAMessage"},
	{row: "GET /messages/{id}", path: "/messages/acme-01/m-1", who: everybody, shows: "Given up after 10 attempts|491****0000|Message id|Queued",
		can: map[string][]sealmq.Role{"/messages/{client}/{id}/text": readers, "/messages/{client}/{id}/retry": admins}, proofs: "TestMessageIsAStory TestFindAMessage"},
	{row: "GET /profile", path: "/profile", who: everybody, shows: "anna@example.com|Role|Client|acme-01|Member since|Last login|Recent activity|Logged in",
		can:    map[string][]sealmq.Role{"/profile/password": everybody, "/profile/sessions/{id}/end": everybody, "/profile/second-factor": everybody, "/profile/tokens": everybody},
		proofs: "TestSessionEnds TestSecondFactor TestTokens TestForcedPasswordChange"},
	{row: "GET /admin/dashboard", path: "/admin/dashboard?hours=24", who: staff, shows: "Accepted|12,480|Delivered|12,068|Waiting|412|Failed|oldest 3 min|Workers 1/2", proofs: "TestOverview TestLiveOverview"},
	{row: "GET /admin/dashboard: totals", path: "/admin/statistics", who: staff, shows: "24 hours|7 days|30 days|Accepted|1,000|Delivered|970|97.0 %|Failed|0.1 %|Waiting|Success rate|99.9 %|Mean time to delivery|350 ms|Clients|12|Active|11|Revoked|In the queue|29"},
	{row: "GET /admin/users", path: "/admin/users?q=anna", who: managers, shows: "anna@example.com|Administrator|acme-01|Active|Last login",
		can: map[string][]sealmq.Role{"/admin/users/create": managers, "/admin/users/{id}/role": admins, "/admin/users/{id}/status": managers, "/admin/users/{id}/password": managers,
			"/admin/users/{id}/client": admins, "/admin/users/{id}/delete": admins}, proofs: "TestUsers"},
	{row: "GET /admin/certificates", path: "/admin/certificates?within=30", who: staff, shows: `<span class="badge bad">6 days left</span>|<span class="badge warn">14 days left</span>|acme-01|Issued|Expires|Active`,
		can: map[string][]sealmq.Role{"/admin/certificates/new": admins, "/admin/certificates/{fingerprint}/revoke": admins, "/admin/certificates/{fingerprint}/renew": admins,
			"/admin/enrolment/new": admins, "/admin/enrolment/{id}/delete": admins, "/admin/certificates/{fingerprint}/consent": admins},
		proofs: "TestCertificateLife TestEnrolmentPages TestEnrolledInThePortal TestIssueGivesTheKeyOnce TestRevoke TestKeyIsGivenOnce"},
	{row: "GET /admin/messages", path: "/admin/messages?client_id=acme-01", who: staff, shows: "acme-01|491****0000|Failed|Attempts|503", can: map[string][]sealmq.Role{"/messages/retry": admins}, proofs: "TestMessagesList TestRetries"},
	{row: "GET /admin/proxies", path: "/admin/proxies", who: staff, shows: "w-1|Away|w-2|Online|Version|There since|Last heard of",
		can: map[string][]sealmq.Role{"/admin/log-level": admins}, proofs: "TestOperations"},
	{row: "GET /admin/database", path: "/admin/database", who: staff, shows: "message_system|5.0 GiB|5,000,000|Connections in use|db:3306", proofs: "TestOperations"},
	{row: "GET /admin/backups", path: "/admin/backups", who: admins, shows: "backup_20261129_020000.zip|Complete|1.0 MiB|Next|every Sunday at 02:00|kept for 30 days|db:3306|keys are in no backup|sealmq restore /data/backups/backup_20261129_020000.zip|is not overwritten: name an empty one|Back up now",
		can: map[string][]sealmq.Role{"/admin/db/backup": admins}, proofs: "TestBackups TestTasks"},
	{row: "GET /admin/data-retention", path: "/admin/data-retention?days=90", who: admins, shows: "4,711|always stay", can: map[string][]sealmq.Role{"/admin/data-retention/cleanup": admins}, proofs: "TestOperations"},
	{row: "GET /admin/queue", path: "/admin/queues", who: staff, shows: "message_queue|12,480", proofs: "TestBrokerPages TestQueuePages"},
	{row: "GET /admin/queue: dead items, re-queue", path: "/admin/dead?queue=results.dead", who: staff, shows: "m-9|not readable|Died in|results", can: map[string][]sealmq.Role{"/admin/dead/return": admins, "/admin/queues/pause": admins, "/admin/queues/resume": admins},
		proofs: "TestReturnOfDeadLetters TestReturnDeadLetter"},
	{row: "GET /admin/audit", path: "/admin/audit?actor=anna", who: staff, shows: "Was refused|mallory|192.0.2.7|The audit file is whole", proofs: "TestOperations TestFindAMessage"},
	{row: "GET /health", path: "/health", who: anybody, shows: `"status":"healthy"|"timestamp":"2|Z"|"service":"portal"`},
	{row: "GET /metrics", path: "/metrics", status: http.StatusUnauthorized, proofs: "TestPrometheus"},
	{row: "404", path: "/nothing", status: http.StatusNotFound, proofs: "TestErrorPages TestEveryPage"},
	{row: "403, 500, 503", path: "/admin/users", who: managers, proofs: "TestWhoMayOpenWhat TestMainServerAway"},
}

// specifiedWorld plays a main server in which there is something to see on each page.
func specifiedWorld(t *testing.T) *world {
	w := withCertificates(t, certificateOf("acme-01", 6), certificateOf("acme-02", 14))
	o := exampleOverview()
	m := testMessage("m-1", failed)
	m.ErrorMessage = "503"
	anna := account(admin)
	anna.ClientID, anna.LastLogin = "acme-01", testNow
	for request, body := range map[string]any{
		"GET /api/v1/overview":         o,
		"GET /api/v1/overview/history": mainapi.History{From: testNow, To: testNow, Minutes: o.Minutes},
		"GET /api/v1/statistics":       exampleStatistics(),
		list:                           mainapi.MessagePage{Items: []mainapi.Message{m}, Total: mainapi.Total{Count: 1, Exact: true}},
		"GET /api/v1/clients/acme-01/messages/m-1":          m,
		"GET /api/v1/clients/acme-01/messages/m-1/timeline": mainapi.Timeline{Events: []mainapi.TimelineEvent{{Event: "given_up", At: testNow, Attempt: 10}}},
		"GET /api/v1/sessions":                              map[string]any{"items": []mainapi.Session{{ID: 1, Current: true, CreatedAt: testNow, LastSeen: testNow}}},
		"GET /api/v1/me/activity":                           map[string]any{"items": []mainapi.Activity{{EventType: "user_login", At: testNow}}},
		"GET /api/v1/users":                                 map[string]any{"items": []mainapi.Account{anna}},
		"GET /api/v1/database":                              mainapi.Database{Kind: "mysql", Name: "message_system", Host: "db", Port: "3306", Bytes: 5 << 30, Rows: map[string]int64{"messages": 5_000_000}},
		"GET /api/v1/backups":                               exampleBackups(),
		"POST /api/v1/retention/preview":                    mainapi.RetentionResult{RetentionDays: 90, Cutoff: testNow, Messages: 4711},
		"GET /api/v1/broker/queue":                          mainapi.BrokerQueueDetail{Queue: mainapi.BrokerQueue{Name: "results.dead", DeadLettersOf: "results"}},
		"GET /api/v1/broker/queue/messages":                 mainapi.BrokerMessagePage{Items: []mainapi.BrokerMessage{{ID: "m-9", DeathReason: "not readable", DeathQueue: "results"}}},
		"GET /api/v1/broker/queues":                         mainapi.BrokerQueuePage{Items: []mainapi.BrokerQueue{{Name: "message_queue", Ready: 12480}}, AsOf: testNow, Total: 1},
		"GET /api/v1/audit":                                 mainapi.AuditPage{Items: o.Refusals},
		"GET /api/v1/audit/chain":                           mainapi.AuditChain{Records: 12, Whole: true, Until: testNow, CheckedAt: testNow},
	} {
		w.on(request, http.StatusOK, body)
	}
	w.on("POST /api/v1/passwords/reset/check", http.StatusNoContent, nil)
	for i := range o.Refusals {
		o.Refusals[i].EventType = "auth_denied"
	}
	return w
}

func exampleStatistics() (s mainapi.Statistics) {
	s.Messages.Total, s.Messages.Delivered, s.Messages.Failed, s.Messages.Queued, s.Messages.Processing = 1000, 970, 1, 28, 1
	s.Performance.SuccessRate, s.Performance.AvgDeliveryTimeSeconds = 970.0/971, 0.35
	s.Clients.Total, s.Clients.Active, s.Clients.Revoked = 12, 11, 1
	s.Queue = mainapi.QueueCounts{Ready: 28, Processing: 1}
	return s
}

// TestPercent: what is almost all is not called all, and what is little not nothing.
func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0 %", 1: "100 %", 0.5: "50.0 %", 0.9999: "> 99.9 %", 0.00001: "< 0.1 %", 0.001: "0.1 %"} {
		if got := percent(share); got != want {
			t.Errorf("%v is %s, want %s", share, got, want)
		}
	}
}

// TestPagesOfTheSpecification is specification 10.2 row by row: who gets which status, what the
// page shows, what can be done there and by whom, and which tests prove the rest.
func TestPagesOfTheSpecification(t *testing.T) {
	w := specifiedWorld(t)
	for _, s := range specifiedPages {
		t.Run(s.row, func(t *testing.T) {
			for _, role := range append([]sealmq.Role{""}, everybody...) {
				if role != "" {
					me := account(role)
					me.ClientID, me.LastLogin = "acme-01", testNow
					w.on("GET /api/v1/me", http.StatusOK, me)
				}
				rec := w.browse(role, s.path, nil)
				to, leads := s.to[role]
				switch public := slices.Contains(s.who, ""); {
				case leads:
					wantRedirect(t, rec, to)
				case slices.Contains(s.who, role):
					want(t, rec, http.StatusOK, strings.FieldsFunc(s.shows, func(r rune) bool { return r == '|' })...)
				case s.status != 0:
					want(t, rec, s.status)
				case role == "" || public:
					if rec.Code != http.StatusSeeOther {
						t.Errorf("%q gets %d", role, rec.Code)
					}
				default:
					want(t, rec, http.StatusForbidden)
				}
			}
			for pattern, who := range s.can {
				i := slices.IndexFunc(w.portal.table, func(pg page) bool { return pg.path == pattern && pg.do != nil })
				if i < 0 || !slices.Equal(w.portal.table[i].who, who) {
					t.Errorf("nothing is done at %s, or by others than %v", pattern, who)
				}
			}
		})
	}
}

// TestProofsExist: the tests that the table names are there.
func TestProofsExist(t *testing.T) {
	var names []string
	for _, folder := range []string{".", "browser", "../cmd/sealmq"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			text, err := os.ReadFile(folder + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				names = append(names, string(m[1]))
			}
		}
	}
	for _, s := range specifiedPages {
		for _, name := range strings.Fields(s.proofs) {
			if !slices.Contains(names, name) {
				t.Errorf("%s: there is no %s", s.row, name)
			}
		}
	}
}
