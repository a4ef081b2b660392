// Package portal is where people see and administer the product in a browser: pages made on
// the server, with templates, style sheets and scripts in the binary.
//
// It promises that it keeps nothing and decides nothing: each page asks the main server's
// API with its reader's session, so a reader who may not do something is refused there, whatever
// the portal shows. GET changes nothing, and every form works without scripts. No page
// loads from another host, and none has a script or a style within itself.
//
// # Add a page
//
// A group of pages has a file here (queues.go), and a file of templates with the same name
// (templates/queues.html). To add a page:
//
//  1. Write a row for it in its file's list of pages, with its path, who may open it, and its
//     name in the navigation if it stands there. A new file's list goes into Portal.addRoutes.
//     Routes, navigation, the test of roles and the screenshots are made from these rows.
//  2. Write its handler, a func(*visit) error. It asks v.api with v.ctx, fills a struct with
//     what the template shows, and returns v.render(NAME, view). It returns errors of the API
//     as they are: fail makes a page of them. A form returns refused, which puts
//     them to its fields.
//  3. Write its template, {{define "NAME"}}, with the parts in templates/parts: it ranges and
//     asks whether something is there, and decides nothing else. Addresses go through url,
//     times through {{template "time" .}}.
//
// A handler of a POST changes one thing and returns v.done(PATH, TEXT): the reader is sent to
// a page that shows the text once. A dangerous act is a page of its own, which says what will
// happen and has the form; a link to it with data-dialog opens it in a dialog.
package portal
