package mainserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// The events of the administration of accounts.
const (
	eventUserRole       = "user_role_updated"
	eventUserStatus     = "user_status_updated"
	eventUserUpdated    = "user_updated"
	eventUserDeleted    = "user_deleted"
	eventUserUnlocked   = "user_unlocked"
	eventFactorRemoved  = "user_second_factor_removed"
	eventFactorAdded    = "user_second_factor_added"
	eventTokenCreated   = "api_token_created"
	eventTokenRemoved   = "api_token_removed"
	eventResetRequest   = "password_reset_request"
	eventResetConfirmed = "password_reset_confirm"
	// activityEntries are shown of one's own activity; at most failedEntries of them are failed
	// logins.
	activityEntries = 50
	failedEntries   = 10
)

// actor is who looks after accounts.
func actor(ctx context.Context) accounts.Actor {
	c, _ := httpkit.CallerOf(ctx)
	a := accounts.Actor{Role: c.Role}
	if c.Account != nil {
		a.ID = c.Account.ID
	}
	return a
}

// auditUser puts something on record that was done to an account.
func (h *handler) auditUser(ctx context.Context, event string, u accounts.User, details map[string]any) {
	if details == nil {
		details = make(map[string]any)
	}
	details["user"] = u.Email
	h.audit(ctx, act{event: event, severity: records.Warning, details: details})
}

// ListUsers implements mainapi.StrictServerInterface.
func (h *handler) ListUsers(ctx context.Context, r mainapi.ListUsersRequestObject) (mainapi.ListUsersResponseObject, error) {
	p := r.Params
	f := accounts.UserFilter{Role: p.Role, Search: p.Search, Limit: cmp.Or(p.Limit, records.DefaultLimit)}
	if p.Cursor != "" {
		n, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil || n < 1 {
			return nil, errCursor
		}
		f.After = n
	}
	list, err := h.cfg.Store.Users(ctx, f)
	if err != nil {
		return nil, err
	}
	page := mainapi.ListUsers200JSONResponse{Items: []mainapi.Account{}}
	for _, u := range list {
		page.Items = append(page.Items, h.accountOf(u))
	}
	if len(list) == f.Limit {
		page.NextCursor = strconv.FormatInt(list[len(list)-1].ID, 10)
	}
	return page, nil
}

// GetUser implements mainapi.StrictServerInterface.
func (h *handler) GetUser(ctx context.Context, r mainapi.GetUserRequestObject) (mainapi.GetUserResponseObject, error) {
	u, err := h.cfg.Store.User(ctx, r.UserID)
	return mainapi.GetUser200JSONResponse(h.accountOf(u)), err
}

// CreateUser implements mainapi.StrictServerInterface.
func (h *handler) CreateUser(ctx context.Context, r mainapi.CreateUserRequestObject) (mainapi.CreateUserResponseObject, error) {
	b := r.Body
	u, err := h.createUser(ctx, accounts.NewUser{Email: b.Email, Name: b.Name, Password: b.Password, ClientID: b.ClientID, Role: b.Role, MustChange: !b.KeepPassword})
	return mainapi.CreateUser201JSONResponse(h.accountOf(u)), err
}

func (h *handler) createUser(ctx context.Context, n accounts.NewUser) (accounts.User, error) {
	if n.Role != "" && n.Role != accounts.Plain && slices.Contains(accounts.Roles, n.Role) {
		if err := h.confirmed(ctx); err != nil {
			return accounts.User{}, err
		}
	}
	if err := h.checkClient(ctx, n.ClientID); err != nil {
		return accounts.User{}, err
	}
	u, err := h.cfg.Accounts.CreateUser(ctx, actor(ctx), n)
	if err == nil {
		h.auditUser(ctx, eventUserCreated, u, map[string]any{"role": u.Role, "user_client": u.ClientID})
	}
	return u, err
}

// checkClient refuses a client that does not exist, for an account.
func (h *handler) checkClient(ctx context.Context, name string) error {
	if name == "" || actor(ctx).Role != accounts.Admin { // others are refused anyway
		return nil
	}
	_, err := h.cfg.Store.Client(ctx, name)
	if errors.Is(err, records.ErrNotFound) {
		return invalid("client_id", "There is no such client")
	}
	return err
}

// UpdateUser implements mainapi.StrictServerInterface.
func (h *handler) UpdateUser(ctx context.Context, r mainapi.UpdateUserRequestObject) (mainapi.UpdateUserResponseObject, error) {
	b := r.Body
	u, err := h.updateUser(ctx, r.UserID, accounts.Changes{Name: b.Name, ClientID: b.ClientID, Role: b.Role, Active: b.Active})
	return mainapi.UpdateUser200JSONResponse(h.accountOf(u)), err
}

func (h *handler) updateUser(ctx context.Context, id int64, c accounts.Changes) (accounts.User, error) {
	if c.Role != nil && slices.Contains(accounts.Roles, *c.Role) {
		if err := h.confirmed(ctx); err != nil {
			return accounts.User{}, err
		}
	}
	if c.ClientID != nil {
		if err := h.checkClient(ctx, *c.ClientID); err != nil {
			return accounts.User{}, err
		}
	}
	before, u, err := h.cfg.Accounts.ChangeUser(ctx, actor(ctx), id, c)
	if err != nil {
		return u, err
	}
	if before.Role != u.Role {
		h.auditUser(ctx, eventUserRole, u, map[string]any{"role": u.Role, "old_role": before.Role})
	}
	if before.Active != u.Active {
		h.auditUser(ctx, eventUserStatus, u, map[string]any{"active": u.Active})
	}
	if before.ClientID != u.ClientID || before.Name != u.Name {
		h.auditUser(ctx, eventUserUpdated, u, map[string]any{"user_client": u.ClientID, "old_client": before.ClientID})
	}
	return u, nil
}

// DeleteUser implements mainapi.StrictServerInterface.
func (h *handler) DeleteUser(ctx context.Context, r mainapi.DeleteUserRequestObject) (mainapi.DeleteUserResponseObject, error) {
	return mainapi.DeleteUser204Response{}, h.deleteUser(ctx, r.UserID)
}

func (h *handler) deleteUser(ctx context.Context, id int64) error {
	u, err := h.cfg.Accounts.DeleteUser(ctx, actor(ctx), id)
	if err == nil {
		h.auditUser(ctx, eventUserDeleted, u, nil)
	}
	return err
}

// SetUserPassword implements mainapi.StrictServerInterface.
func (h *handler) SetUserPassword(ctx context.Context, r mainapi.SetUserPasswordRequestObject) (mainapi.SetUserPasswordResponseObject, error) {
	_, err := h.setUserPassword(ctx, r.UserID, r.Body.NewPassword, !r.Body.KeepPassword)
	return mainapi.SetUserPassword204Response{}, err
}

func (h *handler) setUserPassword(ctx context.Context, id int64, password string, mustChange bool) (accounts.User, error) {
	if u, err := h.cfg.Store.User(ctx, id); err == nil && u.Role != accounts.Plain {
		if err := h.confirmed(ctx); err != nil { // it would open the account to the caller
			return u, err
		}
	}
	u, err := h.cfg.Accounts.SetPassword(ctx, actor(ctx), id, password, mustChange)
	if err == nil {
		h.auditUser(ctx, eventPassword, u, nil)
	}
	return u, err
}

// UnlockUser implements mainapi.StrictServerInterface.
func (h *handler) UnlockUser(ctx context.Context, r mainapi.UnlockUserRequestObject) (mainapi.UnlockUserResponseObject, error) {
	u, err := h.cfg.Accounts.Unlock(ctx, actor(ctx), r.UserID)
	if err == nil {
		h.auditUser(ctx, eventUserUnlocked, u, nil)
	}
	return mainapi.UnlockUser204Response{}, err
}

// SignOutUser implements mainapi.StrictServerInterface.
func (h *handler) SignOutUser(ctx context.Context, r mainapi.SignOutUserRequestObject) (mainapi.SignOutUserResponseObject, error) {
	u, err := h.cfg.Accounts.SignOut(ctx, actor(ctx), r.UserID)
	if err == nil {
		h.auditUser(ctx, eventSessionsEnded, u, nil)
	}
	return mainapi.SignOutUser204Response{}, err
}

// TakeSecondFactor implements mainapi.StrictServerInterface.
func (h *handler) TakeSecondFactor(ctx context.Context, r mainapi.TakeSecondFactorRequestObject) (mainapi.TakeSecondFactorResponseObject, error) {
	if err := h.confirmed(ctx); err != nil {
		return nil, err
	}
	u, err := h.cfg.Accounts.TakeSecondFactor(ctx, actor(ctx), r.UserID)
	if err == nil {
		h.auditUser(ctx, eventFactorRemoved, u, nil)
	}
	return mainapi.TakeSecondFactor204Response{}, err
}
