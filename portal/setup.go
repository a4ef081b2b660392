package portal

import (
	"net/http"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// The pages that links lead to, which are good once.
var linkPages = []page{
	{path: "/setup", title: "Welcome to SealMQ", show: showSetup, do: setUp},
	{path: "/forgot-password", title: "Forgotten password", show: showForgot, do: forgotPassword},
	{path: "/reset-password", title: "Set a new password", show: showReset, do: resetPassword},
}

// showSetup asks first whether the link is good, so that nobody fills in a form in vain.
func showSetup(v *visit) error {
	v.secretAddress()
	v.token = "" // as when somebody logs in
	if _, err := v.api.CheckSetupWithResponse(v.ctx, mainapi.Link{Token: v.r.FormValue("token")}); err != nil {
		return v.linkRefused(err, newSetupLink)
	}
	return v.setupForm(nil)
}

func (v *visit) setupForm(problems fieldErrors) error {
	return v.renderStatus(formStatus(problems), "login", loginView{Notice: "Make the first administrator's account. It can make the others.",
		Form: form{Action: v.portal.url("/setup"), Submit: "Set up", Wide: true, Fields: []field{
			{Name: "name", Label: "Your name", Value: v.r.PostFormValue("name"), Autocomplete: "name", Max: 100, Required: true, Focus: true},
			{Name: "email", Label: "E-mail address", Kind: "email", Value: v.r.PostFormValue("email"), Autocomplete: "username", Max: 254, Required: true},
			newPasswordField("password", "Password"),
			repeatField,
			{Name: "token", Kind: "hidden", Value: v.r.FormValue("token")},
		}}.with(problems)})
}

// secretAddress keeps an address with a secret in it from the pages that come next.
func (v *visit) secretAddress() { v.w.Header().Set("Referrer-Policy", "no-referrer") }

// Where a new link comes from.
const (
	newSetupLink = "Make a new one with “sealmq user setup-link” on the main server's host. If there is an administrator already, ask for an account."
	newResetLink = "Ask for a new one on the page “Forgotten your password?”, to which the login leads."
)

// linkRefused says of a link that is not good where a new one comes from. Other errors stay as
// they are.
func (v *visit) linkRefused(err error, remedy string) error {
	if hasCode(err, httpkit.CodeInvalidLink) || hasCode(err, httpkit.CodeValidation) {
		return &pageError{http.StatusGone, "This link is not good any more", "It was used, or it has expired, or a newer one has replaced it. " + remedy}
	}
	return err
}

func setUp(v *visit) error {
	v.secretAddress()
	if problems := v.repeated("password"); problems != nil {
		return v.setupForm(problems)
	}
	v.token = ""
	r, err := v.api.SetUpWithResponse(v.ctx, mainapi.Setup{Token: v.r.FormValue("token"), Email: v.r.FormValue("email"), Name: v.r.FormValue("name"), Password: v.r.FormValue("password")})
	switch {
	case hasCode(err, httpkit.CodeInvalidLink):
		return v.linkRefused(err, newSetupLink)
	case err != nil:
		return refused(err, v.setupForm)
	}
	return v.logInAs(r.JSON201, "/")
}

func showForgot(v *visit) error {
	return v.render("login", loginView{Notice: "Give your e-mail address. If there is an account with it, a mail with a link comes.",
		Form: form{Action: v.portal.url("/forgot-password"), Submit: "Send the mail", Wide: true, Cancel: v.portal.url("/login"), Fields: []field{
			{Name: "email", Label: "E-mail address", Kind: "email", Autocomplete: "username", Max: 254, Required: true, Focus: true}}}})
}

// forgotPassword answers in the same way whether there is such an account or not.
func forgotPassword(v *visit) error {
	if _, err := v.api.ForgotPasswordWithResponse(v.ctx, mainapi.EmailAddress{Email: v.r.PostFormValue("email")}); err != nil {
		if _, ok := invalid(err); !ok {
			return err
		}
	}
	return v.render("mail-sent", nil)
}

func showReset(v *visit) error {
	v.secretAddress()
	v.token = ""
	if _, err := v.api.CheckResetWithResponse(v.ctx, mainapi.Link{Token: v.r.FormValue("token")}); err != nil {
		return v.linkRefused(err, newResetLink)
	}
	return v.resetForm(nil)
}

func (v *visit) resetForm(problems fieldErrors) error {
	return v.renderStatus(formStatus(problems), "login", loginView{Notice: "All sessions of the account end.",
		Form: form{Action: v.portal.url("/reset-password"), Submit: "Set password", Wide: true, Fields: []field{
			newPasswordField("password", "New password"),
			repeatField,
			{Name: "token", Kind: "hidden", Value: v.r.FormValue("token")},
		}}.with(problems)})
}

func resetPassword(v *visit) error {
	v.secretAddress()
	if problems := v.repeated("password"); problems != nil {
		return v.resetForm(problems)
	}
	v.token = ""
	_, err := v.api.ResetPasswordWithResponse(v.ctx, mainapi.PasswordReset{Token: v.r.PostFormValue("token"), NewPassword: v.r.PostFormValue("password")})
	switch {
	case hasCode(err, httpkit.CodeInvalidLink):
		return v.linkRefused(err, newResetLink)
	case err != nil:
		return refused(err, func(problems fieldErrors) error {
			problems["password"] = problems["new_password"]
			return v.resetForm(problems)
		})
	}
	return v.done("/login", "The password is set. Log in with it.")
}
