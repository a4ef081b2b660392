package mainserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// This file joins the rules of package accounts to requests.

// bearer says whose account a token belongs to.
func (h *handler) bearer(r *http.Request, token string) (httpkit.Caller, error) {
	l, err := h.cfg.Accounts.Authenticate(r.Context(), token, originOf(r), isUse(r))
	if err == nil && l.User.MustChange && !slices.Contains(beforePasswordChange, r.Pattern) {
		err = accounts.ErrMustChange
	}
	if err == nil && l.Token != nil && !h.allows(l.Token, r.Pattern) {
		err = accounts.ErrScope
	}
	if err != nil {
		return httpkit.Caller{}, answerOf(err)
	}
	return httpkit.Caller{
		Identity: sealmq.Identity{ID: l.User.Email, CommonName: l.User.Email, Role: l.User.Role}, Source: httpkit.ByToken,
		Account: &httpkit.Account{ID: l.User.ID, Email: l.User.Email, ClientID: l.User.ClientID, Session: l.Session.ID},
	}, nil
}

// isUse reports whether a person makes a request, and not a page that is open.
func isUse(r *http.Request) bool {
	return !strings.HasSuffix(r.URL.Path, "/events") && !httpkit.Unattended(r)
}

// allows reports whether an API token is good for a route. None is for what needs a person. One
// with scopes is for the operations of openapi.yaml only.
func (h *handler) allows(t *accounts.Token, pattern string) bool {
	op, known := h.operations[pattern]
	switch {
	case !known:
		return len(t.Scopes) == 0
	case slices.Contains(op.Callers, "account"):
		return pattern == "GET /api/v1/me"
	}
	method, path, _ := strings.Cut(pattern, " ")
	reads := method == http.MethodGet || strings.HasSuffix(path, "/search") || strings.HasSuffix(path, "/verify") || strings.HasSuffix(path, "/preview")
	return t.Allows(op.Task, !reads)
}

// beforePasswordChange are the routes for an account whose password must be changed.
var beforePasswordChange = []string{"GET /api/v1/me", "POST /api/v1/me/password", "DELETE /api/v1/sessions/current",
	"GET /portal/profile", "POST /portal/auth/change-password", "POST /portal/auth/logout", "POST /auth/jwt/logout"}

// login is the login that a request belongs to, as it is now. A stream asks again to learn that
// its login has ended.
func (h *handler) login(ctx context.Context) (accounts.Login, error) {
	r := exchangeOf(ctx).r
	return h.cfg.Accounts.Authenticate(ctx, httpkit.BearerToken(r), originOf(r), isUse(r))
}

// confirmed refuses a guarded act of a person who has not given the password for it. A
// certificate needs no confirmation.
func (h *handler) confirmed(ctx context.Context) error {
	if c, _ := httpkit.CallerOf(ctx); c.Account == nil {
		return nil
	}
	l, err := h.login(ctx)
	if err != nil {
		return err
	}
	return h.cfg.Accounts.Confirmed(l)
}

func originOf(r *http.Request) accounts.Origin {
	return accounts.Origin{Address: httpkit.ClientAddress(r), Agent: r.UserAgent()}
}

// writeError is httpkit.WriteError for errors of package accounts too.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	httpkit.WriteError(w, r, answerOf(err))
}

// answerOf is a refusal of package accounts as an answer. Other errors stay as they are.
func answerOf(err error) error {
	e, ok := errors.AsType[*accounts.Error](err)
	if !ok {
		return err
	}
	answer := &httpkit.Error{Code: httpkit.Code(e.Kind), Message: e.Message, RetryAfter: e.RetryAfter}
	for _, e := range refusals(err) {
		if e.Field != "" {
			answer.Fields = append(answer.Fields, httpkit.Field{Type: "value_error", Loc: []any{"body", e.Field}, Msg: e.Message})
		}
	}
	if answer.Code == httpkit.CodeAuthentication {
		answer.Challenge = "Bearer"
	}
	return answer
}

// refusals are those that an error of package accounts joins.
func refusals(err error) (list []*accounts.Error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what it wraps is looked at
		for _, err := range several.Unwrap() {
			list = append(list, refusals(err)...)
		}
		return list
	}
	if e, ok := errors.AsType[*accounts.Error](err); ok {
		list = append(list, e)
	}
	return list
}

// The events of accounts in the audit log.
const (
	eventLogin          = "user_login"
	eventLoginFailed    = "user_login_failed"
	eventLogout         = "user_logout"
	eventPassword       = "user_password_changed"
	eventUserCreated    = "user_created"
	eventSessionsEnded  = "user_sessions_ended"
	eventSetupLink      = "setup_link_created"
	eventLoginConfirmed = "user_login_confirmed"
	eventTokenReused    = "refresh_token_reused"
)

// endsLogins are the events that end logins, or take something from them.
var endsLogins = []string{eventLogout, eventPassword, eventSessionsEnded, eventTokenReused, eventUserRole, eventUserStatus, eventUserDeleted, eventTokenRemoved, eventResetConfirmed}

// auditGuess puts an error on record that a wrong guess of a password, code or link gives. Other
// errors, such as a new password that is too short, are none.
func (h *handler) auditGuess(ctx context.Context, email string, u accounts.User, err error) {
	e, _ := errors.AsType[*accounts.Error](err)
	if e == nil {
		return
	}
	switch e.Kind {
	case accounts.ErrCredentials.Kind, accounts.ErrSecondFactor.Kind, accounts.ErrLocked.Kind, accounts.ErrFlood.Kind, accounts.ErrLink.Kind:
	default:
		if e.Field != "current_password" && e.Field != "code" {
			return
		}
	}
	h.auditLogin(ctx, email, u, err)
}

// auditLogin puts a login on record, or one that failed. Strangers must not fill the table with
// the latter.
func (h *handler) auditLogin(ctx context.Context, email string, u accounts.User, err error) {
	a := act{event: eventLogin, user: u.ID, actor: u.Email}
	h.cfg.Service.metrics.countLogin(err)
	if errors.Is(err, accounts.ErrSecondFactor) { // it is asked for next
		return
	}
	if err != nil {
		e, ok := errors.AsType[*accounts.Error](err)
		if !ok { // nobody was refused
			return
		}
		leftOut, room := h.failedLogins.take(h.now())
		if !room {
			return
		}
		a = act{event: eventLoginFailed, user: u.ID, actor: accounts.ShownEmail(email), severity: "warning", details: map[string]any{"reason": e.Kind}}
		if leftOut > 0 {
			a.details[leftOutKey] = leftOut
		}
	}
	h.audit(ctx, a)
}
