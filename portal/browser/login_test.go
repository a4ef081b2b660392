package browser

import (
	"strings"
	"testing"
)

func TestFirstPassword(t *testing.T) {
	s := start(t)
	b := newTab(t, s)
	old, address := s.setupPage(), s.setupPage()
	b.open(old)
	b.see("This link is not good any more", "sealmq user setup-link")
	b.open(address)
	b.send("name", "Anna", "email", adminEmail, "password", adminPassword, "repeat", "another one")
	b.see("This differs from the first one.")
	b.send("password", adminPassword, "repeat", adminPassword)
	b.see("anna@example.com", "Healthy")
	b.open(address)
	b.see("This link is not good any more")
}

// TestLoginAndLockout: a wrong password is refused, as many as are configured lock the account, and
// the page that was asked for comes after the right one.
func TestLoginAndLockout(t *testing.T) {
	s := start(t, "SEALMQ_MAIN_LOGIN_MAX_FAILURES=3", "SEALMQ_MAIN_LOGIN_LOCK=30m")
	b := newTab(t, s)
	s.setUp()
	b.open("/profile/password?from=mail")
	b.at("/login?next=%2Fprofile%2Fpassword%3Ffrom%3Dmail")
	b.send("email", adminEmail, "password", "wrong")
	b.see("E-mail address or password is wrong.")
	b.send("email", adminEmail, "password", adminPassword)
	b.at("/profile/password?from=mail")

	other := newTab(t, s)
	other.open("/login")
	for range 3 {
		other.send("email", adminEmail, "password", "wrong")
	}
	other.send("email", adminEmail, "password", adminPassword)
	other.see("Try again in 30 minutes, at", "passwords or codes for this e-mail address were wrong")
	other.follow(`main a[href$="/forgot-password"]`)
	other.at("/forgot-password")
	b.open("/profile")
	b.see("Administrator") // who is in stays in
}

// TestSessionEnds: a session that another device ends is asked to log in again, and is then
// where it was. What was typed into a form is not lost in silence.
func TestSessionEnds(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	other := newTab(t, s)
	other.logIn(adminEmail, adminPassword)
	other.open("/profile")
	other.follow(`form[action$="/end-others"] button`)
	other.see("All other sessions have ended.")
	b.open("/profile/password")
	b.see("Your session has ended.")
	b.send("email", adminEmail, "password", adminPassword)
	b.at("/profile/password")
	b.send("current_password", adminPassword, "new_password", "staple horse correct", "repeat", "staple horse correct")
	b.see("Your password is changed.")
	other.open("/")
	other.see("Your session has ended.")
	b.open("/logout")
	b.follow("main form.form button")
	b.at("/login")
	b.open("/profile")
	b.at("/login?next=%2Fprofile")
}

// TestWithoutScripts: everything works without scripts.
func TestWithoutScripts(t *testing.T) {
	s := start(t)
	s.setUp()
	b := newTab(t, s)
	b.withoutScripts()
	b.logIn(adminEmail, adminPassword)
	b.open("/profile")
	b.follow(`form[action$="/end-others"] button`)
	b.see("All other sessions have ended.")
	b.open("/admin/backups")
	b.follow(`form[action$="/admin/db/backup"] button`)
	b.see("A backup is being made", "backup_")
	b.click("details.account summary")
	b.follow(`.side-foot button[value="dark"]`)
	if got := evaluate[string](b, "document.documentElement.dataset.theme"); got != "dark" {
		t.Errorf("the theme is %q", got)
	}
	b.click("details.account summary")
	b.follow(`.side-foot form[action$="/logout"] button`)
	b.at("/login")
}

// TestPrefix: below a path nothing leads out of it.
func TestPrefix(t *testing.T) {
	s := start(t, "SEALMQ_PORTAL_PREFIX=/tools/mq")
	b := s.administrator(t)
	b.open("/profile/password")
	b.at("/tools/mq/profile/password")
	links := evaluate[[]string](b, `[...document.querySelectorAll("[href], [src], [action]")].map((e) => e.getAttribute("href") || e.getAttribute("src") || e.getAttribute("action"))`)
	for _, link := range links {
		if !strings.HasPrefix(link, "/tools/mq/") && !strings.HasPrefix(link, "#") {
			t.Errorf("%s leads out of the prefix", link)
		}
	}
	b.click("details.account summary")
	b.follow(`.side-foot form[action$="/logout"] button`)
	b.at("/tools/mq/login")
}

// TestColours: the system's colours hold until somebody chooses others.
func TestColours(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	surface := func() string {
		return evaluate[string](b, "getComputedStyle(document.documentElement).backgroundColor")
	}
	const light, dark = "rgb(255, 255, 255)", "rgb(17, 20, 23)"
	for _, step := range []struct{ system, choose, want string }{{"light", "", light}, {"dark", "", dark}, {"dark", "light", light}, {"light", "", light}, {"light", "dark", dark}} {
		b.colours(step.system)
		b.open("/profile")
		if step.choose != "" {
			b.click("details.account summary")
			b.follow(`.side-foot button[value="` + step.choose + `"]`)
		}
		if got := surface(); got != step.want {
			t.Errorf("system %s, chosen %q: the page is %s, want %s", step.system, step.choose, got, step.want)
		}
	}
}

// TestDoubleSubmit: a form that is sent twice acts once.
func TestDoubleSubmit(t *testing.T) {
	s := start(t)
	b := newTab(t, s)
	s.setUp()
	b.open("/login")
	b.fill("email", adminEmail, "password", adminPassword)
	evaluate[bool](b, `document.querySelector("form.form").addEventListener("submit", () => setTimeout(() => document.querySelector("form.form").requestSubmit(), 0)); true`)
	b.follow("main form.form button[type=submit]")
	b.open("/profile")
	if rows := evaluate[int](b, `document.querySelector("main tbody").rows.length`); rows != 2 { // that of setUp and this one
		t.Errorf("%d sessions, want 2", rows)
	}
}
