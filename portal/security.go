package portal

import (
	"bytes"
	"encoding/base64"
	"html/template"
	"image/png"
	"strconv"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// The pages about the second factor and the API tokens of one's own account.
var securityPages = []page{
	{path: "/profile/second-factor", title: "Second factor", up: &link{"Profile", "/profile"}, who: everybody, show: showFactor, do: confirmFactor},
	{path: "/profile/second-factor/remove", title: "Remove the second factor", up: &link{"Profile", "/profile"}, who: everybody, show: blank((*visit).removeOwnFactorForm), do: removeOwnFactor},
	{path: "/profile/tokens", title: "API tokens", up: &link{"Profile", "/profile"}, who: everybody, show: blank((*visit).tokens), do: createToken},
	{path: "/profile/tokens/{id}/delete", who: everybody, do: deleteToken},
}

// factorView shows the key for an authenticator app, as a picture and as text.
type factorView struct {
	Picture template.URL
	Secret  string
	Form    form
}

// showFactor begins with a new key each time; it counts once a code was entered.
func showFactor(v *visit) error {
	if v.account.SecondFactor {
		return v.redirect("/profile")
	}
	return v.render("factor-begin", form{Action: v.portal.url("/profile/second-factor"), Submit: "Begin", Cancel: v.portal.url("/profile")})
}

// confirmFactor makes a key, or takes the first code of one.
func confirmFactor(v *visit) error {
	if v.r.PostFormValue("secret") == "" {
		r, err := v.api.BeginSecondFactorWithResponse(v.ctx)
		if err != nil {
			return err
		}
		return v.factorForm(r.JSON200.Secret, r.JSON200.URI, nil)
	}
	secret, uri := v.r.PostFormValue("secret"), v.r.PostFormValue("uri")
	r, err := v.api.ConfirmSecondFactorWithResponse(v.ctx, mainapi.SecondFactorCode{Code: v.r.PostFormValue("code")})
	if err != nil {
		return refused(err, func(problems fieldErrors) error { return v.factorForm(secret, uri, problems) })
	}
	v.title = "Recovery codes"
	return v.render("recovery-codes", r.JSON200.RecoveryCodes)
}

const qrPixels = 220

func (v *visit) factorForm(secret, uri string, problems fieldErrors) error {
	view := factorView{Secret: secret, Form: form{Action: v.portal.url("/profile/second-factor"), Submit: "Turn on", Cancel: v.portal.url("/profile"), Fields: []field{
		{Name: "code", Label: "Code that the app shows", Autocomplete: "one-time-code", Max: 10, Code: true, Required: true, Focus: true},
		{Name: "secret", Kind: "hidden", Value: secret}, {Name: "uri", Kind: "hidden", Value: uri},
	}}.with(problems)}
	code, err := qr.Encode(uri, qr.M, qr.Auto)
	if err == nil {
		code, err = barcode.Scale(code, qrPixels, qrPixels)
	}
	var b bytes.Buffer
	if err == nil {
		err = png.Encode(&b, code)
	}
	if err != nil {
		return err
	}
	view.Picture = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())) //nolint:gosec // our own picture
	return v.renderStatus(formStatus(problems), "factor", view)
}

func (v *visit) removeOwnFactorForm(problems fieldErrors) error {
	return v.renderStatus(formStatus(problems), "danger", dangerView{Title: "Remove the second factor?", Text: []string{"The password alone opens your account then. The recovery codes are void."},
		Form: form{Action: v.portal.url("/profile/second-factor/remove"), Submit: "Remove the second factor", Danger: true, Cancel: v.portal.url("/profile"), Fields: []field{
			{Name: "password", Label: "Password", Kind: "password", Autocomplete: "current-password", Max: 200, Required: true, Focus: true},
			{Name: "code", Label: "Code", Autocomplete: "one-time-code", Max: 40, Code: true, Required: true, Hint: "Of the authenticator app, or a recovery code."}}}.with(problems)})
}

func removeOwnFactor(v *visit) error {
	_, err := v.api.RemoveSecondFactorWithResponse(v.ctx, mainapi.Confirmation{Password: v.r.PostFormValue("password"), Code: v.r.PostFormValue("code")})
	switch {
	case hasCode(err, httpkit.CodeInvalidCredentials):
		return v.removeOwnFactorForm(fieldErrors{"password": "This is not your password."})
	case hasCode(err, httpkit.CodeSecondFactor):
		return v.removeOwnFactorForm(fieldErrors{"code": "This code is wrong or was used already."})
	case err != nil:
		return refused(err, v.removeOwnFactorForm)
	}
	return v.done("/profile", "The second factor is off.")
}

// tokensView lists API tokens. New is one that was just made, which is shown this once.
type tokensView struct {
	New    string
	Tokens []tokenRow
	Empty  empty
	Form   form
}

type tokenRow struct {
	mainapi.TokenInfo
	Scopes string
	Delete string
}

func (v *visit) tokens(problems fieldErrors) error { return v.tokensAnd("", problems) }

// tokensAnd lists tokens, and shows one that was just made, if there is one.
func (v *visit) tokensAnd(made string, problems fieldErrors) error {
	r, err := v.api.ListTokensWithResponse(v.ctx)
	if err != nil {
		return err
	}
	view := tokensView{New: made, Empty: empty{Title: "No API token", Text: "A token lets a program of yours use the API with your role, without your password."},
		Form: form{Action: v.portal.url("/profile/tokens"), Submit: "Make a token", Fields: []field{
			{Name: "name", Label: "What is it for?", Max: 100, Required: true, Placeholder: "Nightly report"},
			{Name: "scope", Label: "It may", Kind: "select", Options: options("read", "read", "read everything that you can read", "all", "do everything that you can do")},
			{Name: "days", Label: "It ends", Kind: "select", Options: options("90", "30", "after 30 days", "90", "after 90 days", "365", "after a year", "0", "never")},
		}}.with(problems)}
	for _, t := range r.JSON200.Items {
		view.Tokens = append(view.Tokens, tokenRow{TokenInfo: t, Scopes: joinText(", ", t.Scopes...), Delete: v.portal.url("/profile/tokens", strconv.FormatInt(t.ID, 10), "delete")})
	}
	return v.renderStatus(formStatus(problems), "tokens", view)
}

// readScopes let a token read what its account can read. Others' accounts are not among it.
var readScopes = []string{"messages:read", "clients:read", "certificates:read", "overview:read", "queue:read", "broker:read", "retention:read"}

func createToken(v *visit) error {
	value := v.r.PostFormValue
	t := mainapi.TokenRequest{Name: value("name")}
	if value("scope") == "read" {
		t.Scopes = readScopes
	}
	if days, err := strconv.Atoi(value("days")); err == nil && days > 0 {
		t.ExpiresAt = v.portal.cfg.Now().AddDate(0, 0, days)
	}
	r, err := v.api.MakeTokenWithResponse(v.ctx, t)
	if err != nil {
		return refused(err, v.tokens)
	}
	return v.tokensAnd(r.JSON201.Token, nil)
}

func deleteToken(v *visit) error {
	return act(v, v.api.RemoveTokenWithResponse, "/profile/tokens", "The token is void.")
}
