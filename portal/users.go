package portal

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about the accounts of people.
var userPages = []page{
	{path: "/admin/users", title: "Users", nav: "Users", who: managers, show: showUsers},
	{path: "/admin/users/create", title: "New user", up: &link{"Users", "/admin/users"}, who: managers, show: blank((*visit).newUserForm), do: createUser},
	{path: "/admin/users/{id}", title: "User", up: &link{"Users", "/admin/users"}, who: managers, show: showUser},
	{path: "/admin/users/{id}/role", who: admins, do: changeRole},
	{path: "/admin/users/{id}/client", who: admins, do: changeClient},
	{path: "/admin/users/{id}/status", who: managers, do: changeStatus},
	{path: "/admin/users/{id}/password", title: "Set a password", who: managers, show: blank((*visit).setPasswordForm), do: setPassword},
	{path: "/admin/users/{id}/unlock", who: managers, do: unlockUser},
	{path: "/admin/users/{id}/sign-out", who: managers, do: signOutUser},
	{path: "/admin/users/{id}/second-factor", title: "Remove the second factor", who: managers, show: showRemoveFactor, do: removeFactor},
	{path: "/admin/users/{id}/delete", title: "Delete a user", who: admins, show: blank((*visit).deleteUserForm), do: deleteUser},
}

// userRow is an account in a list.
type userRow struct {
	mainapi.Account
	Path  string
	Role  string
	State state
}

func userRowOf(a *mainapi.Account) userRow {
	return userRow{Account: *a, Path: userPath(a.ID), Role: roleName(a.Role), State: userStateOf(a)}
}

func userStateOf(a *mainapi.Account) state {
	switch {
	case !a.Active:
		return state{"", "Inactive"}
	case a.Locked:
		return state{"bad", "Locked"}
	case a.MustChangePassword:
		return state{"warn", "Must change the password"}
	}
	return state{"good", "Active"}
}

func showUsers(v *visit) error {
	query := v.r.URL.Query()
	r, err := v.api.ListUsersWithResponse(v.ctx, &mainapi.ListUsersParams{Search: query.Get("q"), Role: sealmq.Role(query.Get("role")), Cursor: query.Get("cursor"), Limit: pageSize})
	if err != nil {
		return err
	}
	view := listView[userRow]{Rows: rows(r.JSON200.Items, userRowOf), Pager: pagerOf(query, r.JSON200.NextCursor), Filters: filters{Action: v.portal.url("/admin/users"), Fields: []field{
		{Name: "q", Label: "E-mail or name", Kind: "search", Value: query.Get("q"), Max: 254, Grow: true},
		{Name: "role", Label: "Role", Kind: "select", Options: roleOptions(query.Get("role"), "Every role", everybody)},
	}}, Empty: empty{Title: "No account matches", Text: "Change the filter, or clear it."}}
	if query.Get("q") != "" || query.Get("role") != "" {
		view.Filters.Clear = v.portal.url("/admin/users")
	}
	return v.render("users", view)
}

func userPath(id int64, segments ...string) string {
	return localPath("/admin/users", append([]string{strconv.FormatInt(id, 10)}, segments...)...)
}

// userPage is the page of the account that the path names.
func (v *visit) userPage() string { return localPath("/admin/users", v.r.PathValue("id")) }

// roleOptions are the choices of a role. all is the text of the empty one, if there is one.
func roleOptions(selected, all string, roles []sealmq.Role) []option {
	var pairs []string
	if all != "" {
		pairs = append(pairs, "", all)
	}
	for _, r := range slices.Backward(roles) {
		pairs = append(pairs, string(r), roleName(r))
	}
	return options(selected, pairs...)
}

// grantable are the roles that the reader may give.
func (v *visit) grantable() []sealmq.Role {
	if v.may(admins) {
		return everybody
	}
	return []sealmq.Role{user}
}

func (v *visit) newUserForm(problems fieldErrors) error {
	value := v.r.PostFormValue
	client := field{Name: "client_id", Label: "Client", Value: value("client_id"), Max: 255, Code: true, Hint: "The client whose messages the account sees. Empty for none."}
	if !v.may(admins) {
		client = field{Name: "client_id", Kind: "hidden"}
	}
	return v.renderStatus(formStatus(problems), "login", loginView{Notice: "The account can log in at once, and must choose a password of its own then.",
		Form: form{Action: v.portal.url("/admin/users/create"), Submit: "Create user", Cancel: v.portal.url("/admin/users"), Fields: []field{
			{Name: "email", Label: "E-mail address", Kind: "email", Value: value("email"), Autocomplete: "off", Max: 254, Required: true, Focus: true},
			{Name: "name", Label: "Name", Value: value("name"), Autocomplete: "off", Max: 100},
			{Name: "role", Label: "Role", Kind: "select", Options: roleOptions(cmp.Or(value("role"), string(user)), "", v.grantable()),
				Hint: allRoles()},
			client,
			{Name: "password", Label: "First password", Kind: "password", Autocomplete: "new-password", Max: 200, Required: true, Hint: "At least 8 characters. It is good for the first login only."},
		}}.with(problems)})
}

func createUser(v *visit) error {
	value := v.r.PostFormValue
	r, err := v.api.CreateUserWithResponse(v.ctx, mainapi.UserCreate{Email: value("email"), Name: value("name"), Role: sealmq.Role(value("role")), ClientID: value("client_id"), Password: value("password")})
	if err != nil {
		return refused(err, v.newUserForm)
	}
	return v.done(userPath(r.JSON201.ID), "The account is made. Tell its owner the first password in a safe way.")
}

type userView struct {
	User  mainapi.Account
	Role  string
	State state
	Path  string
	// Self says that it is the reader's own account, which others look after.
	Self, MayAll, MayLook, Locked bool
	// MayOpen says that the reader may do what would let him log in as the account.
	MayOpen              bool
	RoleForm, ClientForm form
}

func showUser(v *visit) error {
	a, err := v.user()
	if err != nil {
		return err
	}
	view := userView{User: *a, Role: roleName(a.Role), State: userStateOf(a), Path: userPath(a.ID), Self: a.ID == v.account.ID,
		MayAll: v.may(admins), MayLook: v.may(admins) || a.Role == user, MayOpen: v.may(admins) || a.Role == user && a.ClientID == "", Locked: a.Locked}
	path := v.portal.url(view.Path)
	view.RoleForm = form{Action: path + "/role", Submit: "Change role", Fields: []field{{Name: "role", Label: "Role", Kind: "select", Options: roleOptions(string(a.Role), "", everybody), Hint: allRoles()}}}
	view.ClientForm = form{Action: path + "/client", Submit: "Change client", Fields: []field{{Name: "client_id", Label: "Client", Value: a.ClientID, Max: 255, Code: true, Hint: "Empty for none."}}}
	return v.render("user", view)
}

// user is the account that the path names.
func (v *visit) user() (*mainapi.Account, error) {
	id, err := v.id("id")
	if err != nil {
		return nil, err
	}
	r, err := v.api.GetUserWithResponse(v.ctx, id)
	if err != nil {
		return nil, err
	}
	v.title = r.JSON200.Email
	return r.JSON200, nil
}

// changeUser changes one property of the account that the path names.
func (v *visit) changeUser(change mainapi.UserUpdate, text string) error {
	id, err := v.id("id")
	if err == nil {
		_, err = v.api.UpdateUserWithResponse(v.ctx, id, change)
	}
	return v.doneUnless(err, userPath(id), text)
}

func changeRole(v *visit) error {
	role := sealmq.Role(v.r.PostFormValue("role"))
	return v.changeUser(mainapi.UserUpdate{Role: &role}, "The role is "+roleName(role)+" now.")
}

func changeClient(v *visit) error {
	client := v.r.PostFormValue("client_id")
	return v.changeUser(mainapi.UserUpdate{ClientID: &client}, "The client is changed.")
}

func changeStatus(v *visit) error {
	active := v.r.PostFormValue("is_active") == "true"
	text := "The account is inactive: its sessions have ended."
	if active {
		text = "The account is active again."
	}
	return v.changeUser(mainapi.UserUpdate{Active: &active}, text)
}

func unlockUser(v *visit) error {
	return act(v, v.api.UnlockUserWithResponse, v.userPage(), "The account is unlocked.")
}

func signOutUser(v *visit) error {
	return act(v, v.api.SignOutUserWithResponse, v.userPage(), "All sessions of the account have ended.")
}

func (v *visit) setPasswordForm(problems fieldErrors) error {
	a, err := v.user()
	if err != nil {
		return err
	}
	v.crumb, v.title = &link{a.Email, userPath(a.ID)}, "Set a password"
	return v.renderStatus(formStatus(problems), "login", loginView{Notice: "It is good for one login, at which its owner must choose another one. Sessions of the account end now.",
		Form: form{Action: v.portal.url(userPath(a.ID, "password")), Submit: "Set password", Cancel: v.portal.url(userPath(a.ID)),
			Fields: []field{newPasswordField("new_password", "New password")}}.with(problems)})
}

func setPassword(v *visit) error {
	id, err := v.id("id")
	if err != nil {
		return err
	}
	_, err = v.api.SetUserPasswordWithResponse(v.ctx, id, mainapi.UserPassword{NewPassword: v.r.PostFormValue("new_password")})
	if err != nil {
		return refused(err, v.setPasswordForm)
	}
	return v.done(userPath(id), "The password is set. Tell it to its owner in a safe way.")
}

func showRemoveFactor(v *visit) error {
	a, err := v.user()
	if err != nil {
		return err
	}
	v.crumb, v.title = &link{a.Email, userPath(a.ID)}, "Remove the second factor"
	return v.render("danger", dangerView{Title: "Remove the second factor of " + a.Email + "?",
		Text: []string{"Until its owner sets up a new one, the password alone opens this account.", "Make sure that it is really the owner who asks for this."},
		Form: form{Action: v.portal.url(userPath(a.ID, "second-factor")), Submit: "Remove the second factor", Danger: true, Cancel: v.portal.url(userPath(a.ID))}})
}

func removeFactor(v *visit) error {
	return act(v, v.api.TakeSecondFactorWithResponse, v.userPage(), "The second factor is removed.")
}

func (v *visit) deleteUserForm(problems fieldErrors) error {
	a, err := v.user()
	if err != nil {
		return err
	}
	v.crumb, v.title = &link{a.Email, userPath(a.ID)}, "Delete"
	return v.renderStatus(formStatus(problems), "danger", dangerView{Title: "Delete " + a.Email + "?",
		Text: []string{"Its sessions and API tokens end now, and it cannot come back. What it did stays in the audit log. To keep it out for a while, deactivate it instead."},
		Form: form{Action: v.portal.url(userPath(a.ID, "delete")), Submit: "Delete user", Danger: true, Cancel: v.portal.url(userPath(a.ID)),
			Fields: []field{confirmField(a.Email, "E-mail address")}}.with(problems)})
}

// confirmField asks for a name before a dangerous act.
func confirmField(name, what string) field {
	return field{Name: "confirm", Label: what + " again, to be sure", Match: name, Placeholder: name, Autocomplete: "off", Required: true, Code: true, Max: 256, Focus: true}
}

func deleteUser(v *visit) error {
	a, err := v.user()
	if err != nil {
		return err
	}
	if v.r.PostFormValue("confirm") != a.Email {
		return v.deleteUserForm(fieldErrors{"confirm": "This is not " + a.Email + "."})
	}
	return act(v, v.api.DeleteUserWithResponse, "/admin/users", a.Email+" is deleted.")
}
