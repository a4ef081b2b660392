package mainserver

import (
	"context"
	"errors"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// LogIn implements mainapi.StrictServerInterface.
func (h *handler) LogIn(ctx context.Context, r mainapi.LogInRequestObject) (mainapi.LogInResponseObject, error) {
	opened, err := h.cfg.Accounts.Login(ctx, accounts.Credentials{Email: r.Body.Email, Password: r.Body.Password, Code: r.Body.Code}, originOf(exchangeOf(ctx).r))
	h.auditLogin(ctx, r.Body.Email, opened.User, err)
	if errors.Is(err, accounts.ErrSecondFactor) {
		err = &httpkit.Error{Code: httpkit.CodeSecondFactor, Message: accounts.ErrSecondFactor.Message, SecondFactorToken: opened.SecondStep}
	}
	return mainapi.LogIn201JSONResponse(h.openedSession(opened)), err
}

// LogInWithCode implements mainapi.StrictServerInterface.
func (h *handler) LogInWithCode(ctx context.Context, r mainapi.LogInWithCodeRequestObject) (mainapi.LogInWithCodeResponseObject, error) {
	opened, err := h.cfg.Accounts.LoginWithCode(ctx, r.Body.Token, r.Body.Code, originOf(exchangeOf(ctx).r))
	if opened.User.ID != 0 { // else nobody has given a password
		h.auditLogin(ctx, opened.User.Email, opened.User, err)
	}
	return mainapi.LogInWithCode201JSONResponse(h.openedSession(opened)), err
}

func (h *handler) openedSession(o accounts.Opened) mainapi.OpenedSession {
	return mainapi.OpenedSession{Token: o.Token, ExpiresAt: o.Session.ExpiresAt.UTC(), Account: h.accountOf(o.User)}
}

func (h *handler) accountOf(u accounts.User) mainapi.Account {
	return mainapi.Account{ID: u.ID, Email: u.Email, Name: u.Name, Role: u.Role, ClientID: u.ClientID, Active: u.Active, MustChangePassword: u.MustChange, SecondFactor: u.SecondFactor, Locked: h.cfg.Accounts.Locked(u),
		LastLogin: utc(u.LastLogin), CreatedAt: u.CreatedAt.UTC()}
}

// LogOut implements mainapi.StrictServerInterface.
func (h *handler) LogOut(ctx context.Context, _ mainapi.LogOutRequestObject) (mainapi.LogOutResponseObject, error) {
	return mainapi.LogOut204Response{}, h.endSession(ctx, account(ctx).Session)
}

// account is the caller's account, on routes for persons.
func account(ctx context.Context) httpkit.Account {
	c, _ := httpkit.CallerOf(ctx)
	if c.Account == nil { // access lets nobody in without one
		return httpkit.Account{}
	}
	return *c.Account
}

func (h *handler) endSession(ctx context.Context, id int64) error {
	err := h.cfg.Store.EndSession(ctx, account(ctx).ID, id)
	if errors.Is(err, accounts.ErrNotFound) {
		return httpkit.Errorf(httpkit.CodeNotFound, "There is no such login")
	}
	if err == nil {
		h.audit(ctx, act{event: eventLogout, details: map[string]any{"session": id}})
	}
	return err
}

// EndSession implements mainapi.StrictServerInterface.
func (h *handler) EndSession(ctx context.Context, r mainapi.EndSessionRequestObject) (mainapi.EndSessionResponseObject, error) {
	return mainapi.EndSession204Response{}, h.endSession(ctx, r.SessionID)
}

// EndOtherSessions implements mainapi.StrictServerInterface.
func (h *handler) EndOtherSessions(ctx context.Context, _ mainapi.EndOtherSessionsRequestObject) (mainapi.EndOtherSessionsResponseObject, error) {
	me := account(ctx)
	if err := h.cfg.Store.EndSessions(ctx, me.ID, me.Session); err != nil {
		return nil, err
	}
	h.audit(ctx, act{event: eventSessionsEnded})
	return mainapi.EndOtherSessions204Response{}, nil
}

// ListSessions implements mainapi.StrictServerInterface.
func (h *handler) ListSessions(ctx context.Context, _ mainapi.ListSessionsRequestObject) (mainapi.ListSessionsResponseObject, error) {
	me := account(ctx)
	list, err := h.cfg.Accounts.Sessions(ctx, me.ID)
	answer := mainapi.ListSessions200JSONResponse{Items: []mainapi.Session{}}
	for _, s := range list {
		answer.Items = append(answer.Items, mainapi.Session{ID: s.ID, Kind: s.Kind, CreatedAt: s.CreatedAt.UTC(), LastSeen: s.LastSeen.UTC(), ExpiresAt: s.ExpiresAt.UTC(),
			Address: s.Address, UserAgent: s.Agent, Current: s.ID == me.Session})
	}
	return answer, err
}

// ConfirmSession implements mainapi.StrictServerInterface.
func (h *handler) ConfirmSession(ctx context.Context, r mainapi.ConfirmSessionRequestObject) (mainapi.ConfirmSessionResponseObject, error) {
	l, err := h.login(ctx)
	if err != nil {
		return nil, err
	}
	if err = h.cfg.Accounts.Confirm(ctx, l, r.Body.Password, r.Body.Code, originOf(exchangeOf(ctx).r)); err != nil {
		h.auditLogin(ctx, l.User.Email, l.User, err)
		return nil, err
	}
	h.audit(ctx, act{event: eventLoginConfirmed})
	return mainapi.ConfirmSession204Response{}, nil
}

// GetMe implements mainapi.StrictServerInterface.
func (h *handler) GetMe(ctx context.Context, _ mainapi.GetMeRequestObject) (mainapi.GetMeResponseObject, error) {
	u, err := h.cfg.Store.User(ctx, account(ctx).ID)
	return mainapi.GetMe200JSONResponse(h.accountOf(u)), err
}

// ChangePassword implements mainapi.StrictServerInterface.
func (h *handler) ChangePassword(ctx context.Context, r mainapi.ChangePasswordRequestObject) (mainapi.ChangePasswordResponseObject, error) {
	return mainapi.ChangePassword204Response{}, h.changePassword(ctx, r.Body.CurrentPassword, r.Body.NewPassword)
}

func (h *handler) changePassword(ctx context.Context, current, password string) error {
	l, err := h.login(ctx)
	if err != nil {
		return err
	}
	if err := h.cfg.Accounts.ChangePassword(ctx, l, current, password, originOf(exchangeOf(ctx).r)); err != nil {
		h.auditGuess(ctx, l.User.Email, l.User, err)
		return err
	}
	h.audit(ctx, act{event: eventPassword, details: map[string]any{"user": l.User.Email}})
	return nil
}

// CheckSetup implements mainapi.StrictServerInterface.
func (h *handler) CheckSetup(ctx context.Context, r mainapi.CheckSetupRequestObject) (mainapi.CheckSetupResponseObject, error) {
	err := h.cfg.Accounts.CheckSetup(ctx, r.Body.Token, originOf(exchangeOf(ctx).r))
	h.auditGuess(ctx, "", accounts.User{}, err)
	return mainapi.CheckSetup204Response{}, err
}

// SetUp implements mainapi.StrictServerInterface.
func (h *handler) SetUp(ctx context.Context, r mainapi.SetUpRequestObject) (mainapi.SetUpResponseObject, error) {
	b := r.Body
	opened, err := h.cfg.Accounts.Setup(ctx, b.Token, b.Email, b.Name, b.Password, originOf(exchangeOf(ctx).r))
	if err != nil {
		h.auditGuess(ctx, b.Email, accounts.User{}, err)
		return nil, err
	}
	u := opened.User
	h.audit(ctx, act{event: eventUserCreated, user: u.ID, actor: u.Email, severity: "warning", details: map[string]any{"user": u.Email, "role": u.Role, "by": "setup link"}})
	h.auditLogin(ctx, u.Email, u, nil)
	return mainapi.SetUp201JSONResponse(h.openedSession(opened)), nil
}

// MakeSetupLink implements mainapi.StrictServerInterface.
func (h *handler) MakeSetupLink(ctx context.Context, _ mainapi.MakeSetupLinkRequestObject) (mainapi.MakeSetupLinkResponseObject, error) {
	token, expires, err := h.cfg.Accounts.NewSetupLink(ctx)
	if err != nil {
		return nil, err
	}
	h.audit(ctx, act{event: eventSetupLink, severity: "warning"})
	return mainapi.MakeSetupLink201JSONResponse{Token: token, ExpiresAt: expires}, nil
}
