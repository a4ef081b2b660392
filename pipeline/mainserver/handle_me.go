package mainserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// ListActivity implements mainapi.StrictServerInterface.
func (h *handler) ListActivity(ctx context.Context, _ mainapi.ListActivityRequestObject) (mainapi.ListActivityResponseObject, error) {
	list, err := h.activity(ctx)
	return mainapi.ListActivity200JSONResponse{Items: list}, err
}

// activity is what happened to the caller's account. Strangers can fail to log in as often as they
// like, and must not push out what matters more: so few of their tries are among it.
func (h *handler) activity(ctx context.Context) ([]mainapi.Activity, error) {
	items := []mainapi.Activity{}
	me := account(ctx).ID
	list, err := h.cfg.Store.Audit(ctx, records.AuditFilter{User: me, Except: eventLoginFailed, Limit: activityEntries})
	if err != nil {
		return items, err
	}
	failed, err := h.cfg.Store.Audit(ctx, records.AuditFilter{User: me, Type: eventLoginFailed, Limit: failedEntries})
	list = append(list, failed...)
	slices.SortFunc(list, func(a, b records.AuditEvent) int { return cmp.Compare(b.ID, a.ID) })
	for _, e := range list[:min(len(list), activityEntries)] {
		items = append(items, mainapi.Activity{At: e.At.UTC(), EventType: e.Type, Address: e.IP})
	}
	return items, err
}

// BeginSecondFactor implements mainapi.StrictServerInterface.
func (h *handler) BeginSecondFactor(ctx context.Context, _ mainapi.BeginSecondFactorRequestObject) (mainapi.BeginSecondFactorResponseObject, error) {
	if err := h.confirmed(ctx); err != nil { // a stolen login must not lock the owner out
		return nil, err
	}
	secret, uri, err := h.cfg.Accounts.BeginSecondFactor(ctx, account(ctx).ID)
	return mainapi.BeginSecondFactor200JSONResponse{Secret: secret, URI: uri}, err
}

// ConfirmSecondFactor implements mainapi.StrictServerInterface.
func (h *handler) ConfirmSecondFactor(ctx context.Context, r mainapi.ConfirmSecondFactorRequestObject) (mainapi.ConfirmSecondFactorResponseObject, error) {
	l, err := h.login(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := h.cfg.Accounts.ConfirmSecondFactor(ctx, l, strings.ReplaceAll(r.Body.Code, " ", ""), originOf(exchangeOf(ctx).r))
	if err != nil {
		h.auditGuess(ctx, l.User.Email, l.User, err)
		return nil, err
	}
	h.auditUser(ctx, eventFactorAdded, l.User, nil)
	return mainapi.ConfirmSecondFactor200JSONResponse{RecoveryCodes: codes}, nil
}

// RemoveSecondFactor implements mainapi.StrictServerInterface.
func (h *handler) RemoveSecondFactor(ctx context.Context, r mainapi.RemoveSecondFactorRequestObject) (mainapi.RemoveSecondFactorResponseObject, error) {
	l, err := h.login(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.cfg.Accounts.RemoveSecondFactor(ctx, l, r.Body.Password, r.Body.Code, originOf(exchangeOf(ctx).r)); err != nil {
		h.auditGuess(ctx, l.User.Email, l.User, err)
		return nil, err
	}
	h.auditUser(ctx, eventFactorRemoved, l.User, nil)
	return mainapi.RemoveSecondFactor204Response{}, nil
}

// ListTokens implements mainapi.StrictServerInterface.
func (h *handler) ListTokens(ctx context.Context, _ mainapi.ListTokensRequestObject) (mainapi.ListTokensResponseObject, error) {
	list, err := h.cfg.Store.Tokens(ctx, account(ctx).ID)
	return mainapi.ListTokens200JSONResponse{Items: mapped(list, tokenInfo)}, err
}

func tokenInfo(t *accounts.Token) mainapi.TokenInfo {
	return mainapi.TokenInfo{ID: t.ID, Name: t.Name, Scopes: append([]string{}, t.Scopes...), CreatedAt: t.CreatedAt.UTC(), ExpiresAt: utc(t.ExpiresAt),
		LastUsed: utc(t.LastUsed), Address: t.Address}
}

// MakeToken implements mainapi.StrictServerInterface.
func (h *handler) MakeToken(ctx context.Context, r mainapi.MakeTokenRequestObject) (mainapi.MakeTokenResponseObject, error) {
	if err := h.confirmed(ctx); err != nil { // a token outlives the login that made it
		return nil, err
	}
	for _, scope := range r.Body.Scopes {
		task, _, _ := strings.Cut(scope, ":")
		if !slices.Contains(h.tasks, task) {
			return nil, invalid("scopes", "The tasks of scopes are "+strings.Join(h.tasks, ", "))
		}
	}
	secret, t, err := h.cfg.Accounts.NewToken(ctx, account(ctx).ID, r.Body.Name, r.Body.Scopes, r.Body.ExpiresAt)
	if err != nil {
		return nil, err
	}
	h.audit(ctx, act{event: eventTokenCreated, severity: records.Warning, details: map[string]any{"token": t.Name, "scopes": t.Scopes}})
	return mainapi.MakeToken201JSONResponse{Token: secret, Info: tokenInfo(&t)}, nil
}

// RemoveToken implements mainapi.StrictServerInterface.
func (h *handler) RemoveToken(ctx context.Context, r mainapi.RemoveTokenRequestObject) (mainapi.RemoveTokenResponseObject, error) {
	err := h.cfg.Store.RemoveToken(ctx, account(ctx).ID, r.TokenID)
	if errors.Is(err, accounts.ErrNotFound) {
		err = httpkit.Errorf(httpkit.CodeNotFound, "There is no such token")
	}
	if err == nil {
		h.audit(ctx, act{event: eventTokenRemoved, details: map[string]any{"token": r.TokenID}})
	}
	return mainapi.RemoveToken204Response{}, err
}

// ForgotPassword implements mainapi.StrictServerInterface.
func (h *handler) ForgotPassword(ctx context.Context, r mainapi.ForgotPasswordRequestObject) (mainapi.ForgotPasswordResponseObject, error) {
	return mainapi.ForgotPassword202Response{}, h.forgotPassword(ctx, r.Body.Email)
}

const (
	forgotAtOnce  = 16
	forgotTimeout = 30 * time.Second
	lastMail      = 2 * time.Second // bounds it when the server stops
)

// errNoMail is the answer to everybody, whatever account they ask for.
var errNoMail = httpkit.Errorf(httpkit.CodeConflict, "No mail can be sent from here; ask an administrator to set a new password")

// forgotPassword sends a reset link in the background, so that the time of the answer does not
// tell whether there is such an account.
func (h *handler) forgotPassword(ctx context.Context, email string) error {
	if accounts.ShownEmail(email) == "" {
		return invalid("email", "The e-mail address is not valid")
	}
	if h.cfg.SendReset == nil {
		return errNoMail
	}
	if err := h.cfg.Accounts.AllowForgot(originOf(exchangeOf(ctx).r)); err != nil {
		return err
	}
	select {
	case h.forgot <- struct{}{}:
	default:
		return accounts.ErrBusy
	}
	stopping, done := httpkit.Stopping(ctx), httpkit.Outlive(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgotTimeout)
	go func() {
		defer func() { cancel(); <-h.forgot; done() }()
		defer context.AfterFunc(stopping, func() { time.AfterFunc(lastMail, cancel) })()
		if err := h.sendReset(ctx, email); err != nil {
			h.cfg.Log.Warn("a link to set a password was not sent", "error", err)
		}
	}()
	return nil
}

func (h *handler) sendReset(ctx context.Context, email string) error {
	token, u, err := h.cfg.Accounts.Forgot(ctx, email)
	if err != nil || token == "" {
		return err
	}
	h.audit(ctx, act{event: eventResetRequest, user: u.ID, actor: u.Email, details: map[string]any{"user": u.Email}})
	return h.cfg.SendReset(u.Email, token)
}

// CheckReset implements mainapi.StrictServerInterface.
func (h *handler) CheckReset(ctx context.Context, r mainapi.CheckResetRequestObject) (mainapi.CheckResetResponseObject, error) {
	err := h.cfg.Accounts.CheckReset(ctx, r.Body.Token, originOf(exchangeOf(ctx).r))
	h.auditGuess(ctx, "", accounts.User{}, err)
	return mainapi.CheckReset204Response{}, err
}

// ResetPassword implements mainapi.StrictServerInterface.
func (h *handler) ResetPassword(ctx context.Context, r mainapi.ResetPasswordRequestObject) (mainapi.ResetPasswordResponseObject, error) {
	return mainapi.ResetPassword204Response{}, h.resetPassword(ctx, r.Body.Token, r.Body.NewPassword)
}

func (h *handler) resetPassword(ctx context.Context, token, password string) error {
	u, err := h.cfg.Accounts.ResetPassword(ctx, token, password, originOf(exchangeOf(ctx).r))
	if err == nil {
		h.audit(ctx, act{event: eventResetConfirmed, user: u.ID, actor: u.Email, severity: records.Warning, details: map[string]any{"user": u.Email, "api_tokens": "deleted"}})
	} else {
		h.auditGuess(ctx, "", u, err)
	}
	return err
}
