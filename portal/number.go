package portal

import (
	"regexp"
	"strings"
)

// Numbers as people type them. Only hashes of whole numbers are kept, so a number is found in its
// international form and no other, and never by its end.

// looksLikeNumber is what may be a sender's number: it must not stand in an address, where
// logs, bookmarks and the browser's history keep it.
var looksLikeNumber = regexp.MustCompile(`^[+(]?([ ()/.-]*[0-9]){4,}[ ()/.-]*$`)

// numberText is what is taken for a number, and not for an id.
var numberText = regexp.MustCompile(`^[+(]?([ ()/.-]*[0-9]){4,17}[ ()/.-]*$`)

const numberAdvice = "A number is searched for as a whole, in its international form such as +49 152 0000 0000: a part of it finds nothing, because only hashes of whole numbers are kept."

// leastDigits is how many digits a number has at least. Fewer are taken for a part of one.
const leastDigits = 7

// internationalNumber is a number that was typed as it is stored. advice says what to type
// instead, if this cannot be known.
func internationalNumber(text string) (number, advice string) {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ReplaceAll(text, "(0)", "")) // +49 (0)152
	typed := len(digits)
	plus := strings.HasPrefix(strings.TrimLeft(text, " ("), "+")
	if rest, ok := strings.CutPrefix(digits, "00"); ok && !plus {
		digits, plus = rest, true
	}
	switch {
	case typed < leastDigits:
		return "", "This has " + plural(typed, "digit") + ". " + numberAdvice
	case strings.HasPrefix(digits, "0"):
		return "", "A number that begins with 0 lacks its country code: type the code in place of the 0, as in +49 172 … for 0172 … in Germany."
	}
	return "+" + digits, ""
}
