package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// trustees are who may use what is private: the user of this process, the system, and the
// administrators, who can read everything anyway.
func trustees() (list []*windows.SID, err error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	list = []*windows.SID{user.User.Sid}
	for _, known := range []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinBuiltinAdministratorsSid} {
		sid, err := windows.CreateWellKnownSid(known)
		if err != nil {
			return nil, err
		}
		list = append(list, sid)
	}
	return list, nil
}

// privateAccess is the access list of something private: it is for the trustees, and a folder's
// list adds nothing to it. What an administrator makes belongs to all of them, so that a service
// of the system takes it for its own.
func privateAccess(inherit string) (*windows.SecurityAttributes, error) {
	list, err := trustees()
	if err != nil {
		return nil, err
	}
	text := "D:P"
	for _, sid := range list {
		text += "(A;" + inherit + ";FA;;;" + sid.String() + ")"
	}
	if is, err := windows.Token(0).IsMember(list[2]); err == nil && is {
		text = "O:BA" + text
	}
	sd, err := windows.SecurityDescriptorFromString(text)
	if err != nil {
		return nil, err
	}
	return &windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: sd}, nil
}

func openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	if flag&os.O_CREATE != 0 && perm&0o077 == 0 {
		err := create(name, "", func(path *uint16, access *windows.SecurityAttributes) error {
			h, err := windows.CreateFile(path, windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, access,
				windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
			if err != nil {
				return err
			}
			return windows.CloseHandle(h)
		})
		switch {
		case err == nil:
			flag &^= os.O_CREATE | os.O_EXCL
		case !errors.Is(err, os.ErrExist):
			return nil, err
		}
	}
	return os.OpenFile(name, flag, perm)
}

func mkdirAll(name string, perm os.FileMode) error {
	if perm&0o077 != 0 {
		return os.MkdirAll(name, perm)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(name); parent != name {
		if err := mkdirAll(parent, perm); err != nil {
			return err
		}
	}
	err := create(name, "OICI", windows.CreateDirectory)
	if errors.Is(err, os.ErrExist) {
		return os.MkdirAll(name, perm) // which says what is there
	}
	return err
}

// create makes something that is private from its first moment on.
func create(name, inherit string, do func(*uint16, *windows.SecurityAttributes) error) error {
	path, err := windows.UTF16PtrFromString(name)
	if err == nil {
		var access *windows.SecurityAttributes
		if access, err = privateAccess(inherit); err == nil {
			err = do(path, access)
		}
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	return nil
}

// checkOwner refuses a file that another user may read or change.
func checkOwner(f *os.File, _ os.FileInfo) error {
	list, err := trustees()
	if err != nil {
		return err
	}
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return &os.PathError{Op: "read the access list", Path: f.Name(), Err: err}
	}
	trusted := func(sid *windows.SID) bool {
		for _, t := range list {
			if sid.Equals(t) {
				return true
			}
		}
		return sid.String() == "S-1-3-4" // the owner's rights
	}
	refuse := func(reason string) error {
		path := `"` + f.Name() + `"`
		fix := "run: icacls " + path + " /setowner *" + list[2].String() + " and: icacls " + path + " /inheritance:r /grant:r"
		for _, sid := range list {
			fix += " *" + sid.String() + ":F"
		}
		return &PrivateError{"key file", f.Name(), reason, fix}
	}
	if owner, _, err := sd.Owner(); err != nil || !trusted(owner) {
		return refuse("belongs to another user (" + account(owner) + ")")
	}
	acl, _, err := sd.DACL()
	if err != nil || acl == nil {
		return refuse("is open to other users (it has no access list)")
	}
	for i := range uint32(acl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(acl, i, &ace); err != nil {
			return &os.PathError{Op: "read the access list", Path: f.Name(), Err: err}
		}
		if ace.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE || ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || ace.Mask&usable == 0 {
			continue
		}
		if ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE {
			return refuse("may be open to other users (its access list has rules of another kind)")
		}
		if sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)); !trusted(sid) {
			return refuse("is open to other users (" + account(sid) + ")")
		}
	}
	return nil
}

// usable are the rights that let somebody read or change a file, or get such rights.
const usable = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER |
	windows.GENERIC_ALL | windows.GENERIC_READ | windows.GENERIC_WRITE

// account is the name of an account, or its number if it has none here.
func account(sid *windows.SID) string {
	if sid == nil {
		return "nobody"
	}
	name, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return sid.String()
	}
	return strings.TrimPrefix(domain+`\`+name, `\`)
}
