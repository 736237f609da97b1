"""The calls and objects of `import imgcls`; each loads torch when it is used."""
