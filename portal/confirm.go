package portal

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// Guarded acts. The main server refuses some acts until the reader has confirmed his login with
// the password. Then the form comes back as a page that asks for the password and carries what
// was filled in, and is sent to the same address: nothing is kept here. Only a new password is
// asked for again, because it must not stand in a page.

// Names of the fields that are for the confirmation. No other form has them.
const (
	confirmPrefix   = "confirm_"
	confirmPassword = confirmPrefix + "password"
	confirmCode     = confirmPrefix + "code"
)

// confirm confirms the reader's login if a form brings the password for it. If that does not
// count, the reader is answered.
func (v *visit) confirm() (answered bool, err error) {
	if v.r.Method != http.MethodPost || v.account == nil || v.r.PostFormValue(confirmPassword) == "" {
		return false, nil
	}
	_, err = v.api.ConfirmSessionWithResponse(v.ctx, mainapi.Confirmation{Password: v.r.PostFormValue(confirmPassword), Code: strings.TrimSpace(v.r.PostFormValue(confirmCode))})
	switch {
	case err == nil:
		return false, nil
	case hasCode(err, httpkit.CodeInvalidCredentials):
		return true, v.askConfirmation(fieldErrors{confirmPassword: "The password is wrong."})
	case hasCode(err, httpkit.CodeSecondFactor):
		return true, v.askConfirmation(fieldErrors{confirmCode: "The code is missing, wrong, or was used already."})
	}
	return false, err
}

type confirmView struct {
	Form form
	// Sent is the address that says whether a form with a download was answered, or empty.
	Sent string
}

// askConfirmation asks for the password, and keeps the form that needs it.
func (v *visit) askConfirmation(problems fieldErrors) error {
	f := form{Action: v.self(), Submit: "Confirm and go on", Cancel: v.portal.url(v.back()), Fields: []field{
		{Name: confirmPassword, Label: "Your password", Kind: "password", Autocomplete: "current-password", Required: true, Focus: true, Max: 200},
	}}
	if v.account.SecondFactor || problems[confirmCode] != "" {
		f.Fields = append(f.Fields, field{Name: confirmCode, Label: "Code of the second factor", Code: true, Autocomplete: "one-time-code", Required: true, Max: 40, Hint: "Six digits of your app, or a recovery code"})
	}
	f.Fields = append(f.Fields, v.filledIn("The new password again")...)
	v.title, v.crumb = "Confirm that it is you", nil
	return v.renderStatus(formStatus(problems), "confirm", confirmView{Form: f.with(problems), Sent: v.sentPath(v.r.PostFormValue("form"))})
}

// filledIn are the fields of a form that was sent, for a page that sends it once more. A password
// must be typed again under a label, because it must not stand in a page.
func (v *visit) filledIn(password string) (fields []field) {
	for _, name := range slices.Sorted(maps.Keys(v.r.PostForm)) {
		switch {
		case strings.HasPrefix(name, confirmPrefix):
		case name == accountField && v.account != nil: // every form of the page gets it
		case name == repeatField.Name:
			fields = append(fields, repeatField)
		case strings.Contains(name, "password"):
			fields = append(fields, field{Name: name, Label: password, Kind: "password", Autocomplete: "off", Max: 200, Required: true, Hint: "The page does not keep it."})
		default:
			for _, value := range v.r.PostForm[name] {
				fields = append(fields, field{Name: name, Kind: "hidden", Value: value})
			}
		}
	}
	return fields
}

// formStatus is the status of a form that is shown for the first time, or again.
func formStatus(problems fieldErrors) int {
	if len(problems) > 0 {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}
