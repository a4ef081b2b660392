package mainserver

import "strings"

// patternWords say in words what the patterns of openapi.yaml ask for, by their beginnings.
var patternWords = []struct{ pattern, words string }{
	{`^ *[+]?([ -]*[0-9]){7,15}`, "The value must be a phone number of 7 to 15 digits, such as +4915200000000"},
	{`^\+[1-9][0-9]{1,14}$`, "The value must be a phone number with its country code, such as +4915200000000"},
	{`^([A-Za-z0-9+/]{4})*`, "The value must be in base64"},
	{`^([A-Za-z0-9]([A-Za-z0-9.-]`, domainWords},
	{`^[A-Za-z0-9]([A-Za-z0-9.-]`, domainWords},
	{`^[A-Za-z0-9][A-Za-z0-9._-]`, "The value may have letters, digits, dots, hyphens and underscores, and begins with a letter or a digit"},
	{`^[A-Za-z0-9._:-]{1,36}$`, "The value may have up to 36 letters, digits, dots, hyphens, underscores and colons"},
	{`^[!-~]([ -~]*[!-~])?$`, "The value may have plain letters, digits and signs, and no blank at its ends"},
	{`^[0-9A-Fa-f:]*$`, "The value may have the digits 0 to 9, the letters a to f, and colons"},
	{`^backup_`, "The value must be the name of a backup, such as backup_20260301_020000.zip"},
	{`^[0-9a-f]{`, "The value must be whole: it has the digits 0 to 9 and the letters a to f"},
	{`^[^\u0000-\u001F`, "The value must be one line, without control characters"},
}

const domainWords = "The value may have letters, digits, dots and hyphens, and begins and ends with a letter or a digit"

// wordsOf is a pattern in words.
func wordsOf(pattern string) string {
	for _, p := range patternWords {
		if strings.HasPrefix(pattern, p.pattern) {
			return p.words
		}
	}
	return "The value must match " + pattern
}
