package pipeline

import (
	"fmt"
	"regexp"
	"strings"
)

// issuerDigits is how much of an issuer tells it from others.
const issuerDigits = 16

var foreign = regexp.MustCompile(fmt.Sprintf("@[0-9a-f]{%d}$", issuerDigits))

// ForeignClient is the client id of a name that another authority than ours certifies; issuer is
// that of an Identity. Two authorities may certify the same name, so the beginning of the
// issuer follows the name.
func ForeignClient(name, issuer string) string {
	_, key, _ := strings.Cut(issuer, ":")
	return name + "@" + key[:min(len(key), issuerDigits)]
}

// IsForeignClient reports whether an id has the form that ForeignClient makes.
func IsForeignClient(id string) bool { return foreign.MatchString(id) }
