package browser

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/testing/server"
	"github.com/sealmq/sealmq/internal/testing/smtpserver"
)

// TestSecondFactor: it is set up with the key on the page, asked for at the next login, and a
// recovery code stands in for it once.
func TestSecondFactor(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	b.open("/profile")
	b.follow(`main a[href$="/profile/second-factor"]`)
	b.send()
	b.see("Confirm that it is you")
	b.send("confirm_password", adminPassword)
	b.see("Scan this with the app")
	if width := evaluate[int](b, `document.querySelector("img.qr").naturalWidth`); width != 220 {
		t.Errorf("the picture is %d px wide", width)
	}
	secret := evaluate[string](b, `document.querySelector(".copyable .mono").textContent`)
	code := func(after time.Duration) string {
		text, err := totp.GenerateCode(secret, time.Now().Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	b.send("code", "000000")
	b.see("The code is wrong")
	b.send("code", code(0))
	b.see("Recovery codes")
	recovery := evaluate[string](b, `document.querySelector(".codes li").textContent`)

	other := newTab(t, s)
	other.logIn(adminEmail, adminPassword)
	other.at("/login/code")
	other.send("code", "000000")
	other.see("This code is wrong or was used already.")
	other.send("code", code(30*time.Second))
	other.open("/profile")
	other.see("Second factor set up", "Remove second factor")

	third := newTab(t, s)
	third.logIn(adminEmail, adminPassword)
	third.send("code", recovery)
	third.open("/profile")
	third.see("Administrator")
	third.open("/logout")
	third.follow("main form.form button")
	third.logIn(adminEmail, adminPassword)
	third.send("code", recovery)
	third.see("This code is wrong or was used already.")
}

var linkInMail = regexp.MustCompile(`https://\S+/reset-password\?token=[A-Za-z0-9_-]+`)

// withMail are the variables with which a site sends its mail to a server.
func withMail(mails *smtpserver.Server) []string {
	return []string{"SEALMQ_MAIL_HOST=" + mails.Host, fmt.Sprintf("SEALMQ_MAIL_PORT=%d", mails.Port), "SEALMQ_MAIL_SECURITY=off", "SEALMQ_MAIL_FROM=mq@example.com"}
}

// linkIn is the reset link in the next mail, which goes to an address.
func linkIn(t *testing.T, mails *smtpserver.Server, email string) string {
	t.Helper()
	mail, err := mails.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	link := strings.ReplaceAll(linkInMail.FindString(strings.ReplaceAll(mail.Raw, "=\r\n", "")), "=3D", "=")
	if link == "" || mail.To != email {
		t.Fatalf("the mail to %s has no link:\n%s", mail.To, mail.Raw)
	}
	return link
}

// resetPage is the path of the page for a new password of an account.
func (s *site) resetPage(mails *smtpserver.Server, email string) string {
	s.t.Helper()
	if r, err := s.API.ForgotPasswordWithResponse(s.t.Context(), mainapi.EmailAddress{Email: email}); err != nil || r.StatusCode() != http.StatusAccepted {
		s.t.Fatalf("no mail: %v %s", err, r.Body)
	}
	_, token, _ := strings.Cut(linkIn(s.t, mails, email), "?")
	return "/reset-password?" + token
}

// TestResetByMail: a mail comes through a real mail server, and its link sets the password once.
func TestResetByMail(t *testing.T) {
	mails := smtpserver.Start(t, nil)
	port, err := server.Port()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, append(withMail(mails), fmt.Sprint("SEALMQ_PORTAL_ADDR=127.0.0.1:", port))...)
	s.setUp()
	b := newTab(t, s)
	b.open("/login")
	b.follow(`a[href$="/forgot-password"]`)
	b.send("email", "nobody@example.com")
	b.see("the mail is on its way")
	b.open("/forgot-password")
	b.send("email", adminEmail)
	b.see("the mail is on its way")
	link := linkIn(t, mails, adminEmail)
	b.open(link)
	b.send("password", "staple horse correct", "repeat", "staple horse")
	b.see("This differs from the first one.")
	b.send("password", "staple horse correct", "repeat", "staple horse correct")
	b.see("The password is set.")
	b.send("email", adminEmail, "password", "staple horse correct")
	b.open("/profile")
	b.see("Password set with a link")
	b.open(link)
	b.see("This link is not good any more")
}

// TestUsers: an administrator makes an account, whose owner must choose a password; deactivating
// it ends its session at once; it is deleted only when its name is typed.
func TestUsers(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	b.open("/admin/users")
	b.follow(`main a[href$="/admin/users/create"]`)
	b.send("email", "bob@example.com", "name", "Bob <b>", "password", "short")
	b.see("8 characters")
	b.send("password", "first password")
	b.see("The account is made.", "Bob <b>", "Must change the password")
	address := evaluate[string](b, "location.pathname")

	bob := newTab(t, s)
	bob.logIn("bob@example.com", "first password")
	bob.at("/profile/password")
	bob.send("current_password", "first password", "new_password", "chosen by bob", "repeat", "chosen by bob")
	bob.open("/profile")
	bob.see("Bob <b>", "User")
	bob.open("/admin/users")
	bob.see("This page is not for your role")

	b.open(address)
	b.follow(`form[action$="/role"] button`)
	b.see("Confirm that it is you")
	b.send("confirm_password", adminPassword)
	b.see("The role is User now.")
	b.follow(`form[action$="/status"] button`)
	b.see("Inactive")
	bob.open("/profile")
	bob.at("/login?expired=1&next=%2Fprofile")
	bob.send("email", "bob@example.com", "password", "chosen by bob")
	bob.see("This account is not active.")

	b.open("/admin/users?q=bob")
	b.follow("a.row-link")
	b.click(`a[href$="/delete"]`)
	b.see("Delete bob@example.com?")
	b.until(`document.querySelector("dialog button[type=submit]").disabled`) // the name is not typed yet
	b.fill("confirm", "bob@example.com")
	b.follow("dialog button[type=submit]")
	b.see("bob@example.com is deleted.")
}

// TestTokens: a token is shown once, and void when it is taken back.
func TestTokens(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	b.open("/profile/tokens")
	b.see("No API token")
	b.send("name", "Nightly report")
	b.see("Confirm that it is you")
	b.send("confirm_password", adminPassword)
	b.see("It is shown only now.")
	b.open("/profile/tokens")
	b.see("Nightly report", "never")
	if strings.Contains(b.text(), "smqt_") {
		t.Error("the token is shown again")
	}
	b.follow(`form[action$="/delete"] button`)
	b.see("The token is void.", "No API token")
}
