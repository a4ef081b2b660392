package send

// DecodeSpool reads a spool's payload as a start does.
func DecodeSpool(payload []byte) error {
	s := &Spool{}
	_, err := s.take(&spoolFile{}, 0, payload)
	return err
}
