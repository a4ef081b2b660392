package mainserver

import (
	"errors"
	"mime"
	"net/http"
	"net/url"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// The aliases for people and programs that log in with a password and get JSON Web Tokens.

// maxSecret bounds passwords and tokens in a body.
const maxSecret = 4096

func (a *aliases) addAccounts() {
	open := httpkit.Options{Access: httpkit.Optional} // a certificate says whether X-Forwarded-For is believed
	person := httpkit.Options{Access: httpkit.Person}
	a.add(open, a.logIn, "POST /auth/login", "POST /portal/auth/login")
	a.add(httpkit.Options{Access: httpkit.Optional, AnyType: true}, a.logInForm, "POST /auth/jwt/login")
	a.handle(nil, 0, a.refresh, "POST /portal/auth/refresh") // the header may have a refresh token
	a.add(open, a.forgotPassword, "POST /portal/auth/forgot-password")
	a.add(open, a.resetPassword, "POST /portal/auth/reset-password")
	a.add(person, a.logOut, "POST /portal/auth/logout")
	a.add(httpkit.Options{Access: httpkit.Person, AnyType: true, Success: http.StatusNoContent}, func(r *http.Request) (any, error) {
		_, err := a.logOut(r)
		return nil, err
	}, "POST /auth/jwt/logout")
	a.add(person, a.changePassword, "POST /portal/auth/change-password")
	a.add(person, func(r *http.Request) (any, error) {
		u, err := a.h.cfg.Store.User(r.Context(), account(r.Context()).ID)
		return userOf(u), err
	}, "GET /portal/profile")
	a.add(person, func(r *http.Request) (any, error) {
		if err := ofLogin(r); err != nil {
			return nil, err
		}
		return a.h.activity(r.Context())
	}, "GET /portal/activity")
}

// userAnswer is an account in the design documents' form.
type userAnswer struct {
	ID         int64         `json:"id"`
	UserID     int64         `json:"user_id"`
	Email      string        `json:"email"`
	Role       string        `json:"role"`
	ClientID   *string       `json:"client_id"`
	Active     bool          `json:"is_active"`
	MustChange bool          `json:"must_change_password"`
	LastLogin  *httpkit.Time `json:"last_login"`
	CreatedAt  *httpkit.Time `json:"created_at"`
}

func userOf(u accounts.User) userAnswer {
	v := userAnswer{ID: u.ID, UserID: u.ID, Email: u.Email, Role: string(u.Role), Active: u.Active, MustChange: u.MustChange, LastLogin: timeOrNull(u.LastLogin), CreatedAt: timeOrNull(u.CreatedAt)}
	if u.ClientID != "" {
		v.ClientID = &u.ClientID
	}
	return v
}

type pairAnswer struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	Type      string `json:"token_type"`
	ExpiresIn int    `json:"expires_in"`
}

func pairOf(p accounts.Pair) pairAnswer {
	return pairAnswer{p.Access, p.Refresh, "bearer", int(p.ExpiresIn.Seconds())}
}

// documented gives refusals of a login the design documents' texts.
func documented(err error) error {
	switch {
	case errors.Is(err, accounts.ErrCredentials):
		return &httpkit.Error{Code: httpkit.CodeAuthentication, Message: "Incorrect email or password", Challenge: "Bearer"}
	case errors.Is(err, accounts.ErrInactive):
		return httpkit.Errorf(httpkit.CodeAuthorization, "Account is inactive")
	case errors.Is(err, accounts.ErrSecondFactor):
		return httpkit.Errorf(httpkit.CodeSecondFactor, `The account has a second factor; give its code too, in the field "code", or use an API token`)
	}
	return err
}

func (a *aliases) logInJWT(r *http.Request, c accounts.Credentials) (accounts.Pair, error) {
	p, err := a.h.cfg.Accounts.LoginJWT(r.Context(), c, originOf(r))
	a.h.auditLogin(r.Context(), c.Email, p.User, err)
	return p, err
}

func (a *aliases) logIn(r *http.Request) (any, error) {
	f := bodyOf(r)
	c := accounts.Credentials{Email: f.text("email", maxSecret, true), Password: f.text("password", maxSecret, true), Code: f.text("code", maxSecret, false)}
	if err := f.err(); err != nil {
		return nil, err
	}
	p, err := a.logInJWT(r, c)
	return struct {
		pairAnswer
		User userAnswer `json:"user"`
	}{pairOf(p), userOf(p.User)}, documented(err)
}

// logInForm is the login of FastAPI-Users.
func (a *aliases) logInForm(r *http.Request) (any, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, httpkit.Errorf(httpkit.CodeUnsupportedMediaType, "The body must be a form, with the header Content-Type: application/x-www-form-urlencoded")
	}
	body, err := httpkit.ReadBody(r, nil)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body)) // never the query of the address, which is logged on the way
	if err != nil {
		return nil, invalid("username", "The form cannot be read")
	}
	o := make(map[string]any)
	for _, name := range []string{"username", "password", "code"} {
		if len(form[name]) > 0 {
			o[name] = form[name][0]
		}
	}
	f := fieldsIn(o)
	c := accounts.Credentials{Email: f.text("username", maxSecret, true), Password: f.text("password", maxSecret, true), Code: f.text("code", maxSecret, false)}
	if err := f.err(); err != nil {
		return nil, err
	}
	p, err := a.logInJWT(r, c)
	if errors.Is(err, accounts.ErrCredentials) || errors.Is(err, accounts.ErrInactive) {
		return nil, &httpkit.Error{Code: httpkit.CodeInvalidCredentials, Message: "LOGIN_BAD_CREDENTIALS", Status: http.StatusBadRequest}
	}
	return map[string]string{"access_token": p.Access, "token_type": "bearer"}, documented(err)
}

func (a *aliases) refresh(r *http.Request) (any, error) {
	o, err := optionalObject(r)
	if err != nil {
		return nil, err
	}
	f := fieldsIn(o)
	token := f.text("refresh_token", maxSecret, o != nil)
	if err := f.err(); err != nil {
		return nil, err
	}
	if o == nil {
		token = httpkit.BearerToken(r)
	}
	p, err := a.h.cfg.Accounts.Refresh(r.Context(), token, originOf(r))
	if errors.Is(err, accounts.ErrReused) {
		a.h.audit(r.Context(), act{event: eventTokenReused, user: p.User.ID, actor: p.User.Email, severity: "warning", details: map[string]any{"user": p.User.Email}})
	}
	if errors.Is(err, accounts.ErrReused) || errors.Is(err, accounts.ErrEnded) {
		err = &httpkit.Error{Code: httpkit.CodeAuthentication, Message: "Invalid refresh token", Challenge: "Bearer"}
	}
	return pairOf(p), err
}

func (a *aliases) forgotPassword(r *http.Request) (any, error) {
	f := bodyOf(r)
	email := f.text("email", maxSecret, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	err := a.h.forgotPassword(r.Context(), email)
	if errors.Is(err, errNoMail) {
		return map[string]string{"message": errNoMail.Message}, nil
	}
	return map[string]string{"message": "If your email is registered, you will receive a reset link shortly."}, err
}

func (a *aliases) resetPassword(r *http.Request) (any, error) {
	f := bodyOf(r)
	token, password := f.text("token", maxSecret, true), f.text("new_password", maxSecret, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	err := a.h.resetPassword(r.Context(), token, password)
	if errors.Is(err, accounts.ErrLink) {
		err = &httpkit.Error{Code: httpkit.CodeInvalidLink, Message: "Invalid or expired reset token", Status: http.StatusBadRequest}
	}
	return map[string]string{"message": "Password has been successfully reset."}, err
}

// ofLogin refuses what an API token may not do to its account.
func ofLogin(r *http.Request) error {
	if account(r.Context()).Session == 0 {
		return accounts.ErrScope
	}
	return nil
}

// logOut ends the login of the access token, and so its refresh token.
func (a *aliases) logOut(r *http.Request) (any, error) {
	err := ofLogin(r)
	if err == nil {
		err = a.h.endSession(r.Context(), account(r.Context()).Session)
	}
	return map[string]string{"status": "success", "message": "Logged out"}, err
}

func (a *aliases) changePassword(r *http.Request) (any, error) {
	if err := ofLogin(r); err != nil {
		return nil, err
	}
	f := bodyOf(r)
	current, password := f.text("current_password", maxSecret, true), f.text("new_password", maxSecret, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	return map[string]string{"status": "success", "message": "Password has been changed."}, a.h.changePassword(r.Context(), current, password)
}
