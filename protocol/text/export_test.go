package text

// ErrorText is errorText for tests.
var ErrorText = errorText
