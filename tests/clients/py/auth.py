"""What applications do with supabase-py and users."""

import itertools
import os

from check import client, equal, fails, run

PASSWORD = "correct horse"
numbers = itertools.count()


def email():
    return f"py{next(numbers)}@example.com"


def signed_up():
    supabase = client()
    address = email()
    answer = supabase.auth.sign_up({"email": address, "password": PASSWORD, "options": {"data": {"name": "A"}}})
    return supabase, address, answer


def sign_up_and_act():
    supabase, address, answer = signed_up()
    equal((answer.user.email, answer.user.user_metadata["name"]), (address, "A"))
    who = supabase.rpc("whoami", {}).execute().data
    equal((who["user"], who["uid"]), ("authenticated", answer.user.id))
    equal(supabase.table("notes").insert({"text": "mine"}).execute().data[0]["owner"], answer.user.id)
    other, _, _ = signed_up()
    equal(other.table("notes").select("*").execute().data, [])
    supabase.auth.sign_out()
    equal(supabase.rpc("whoami", {}).execute().data["user"], "anon")


def sign_in():
    _, address, _ = signed_up()
    supabase = client(os.environ["PUBLISHABLE_KEY"])
    session = supabase.auth.sign_in_with_password({"email": address, "password": PASSWORD}).session
    equal(session.token_type, "bearer")
    equal(supabase.auth.get_user().user.email, address)
    fails(lambda: client().auth.sign_in_with_password({"email": address, "password": "wrong"}), "invalid_credentials")
    fails(lambda: client().auth.sign_up({"email": address, "password": PASSWORD}), "user_already_exists")
    fails(lambda: client().auth.sign_up({"email": email(), "password": "x"}), "weak_password")


def refresh():
    supabase, _, answer = signed_up()
    following = supabase.auth.refresh_session().session
    assert following.refresh_token != answer.session.refresh_token
    fails(lambda: client().auth.refresh_session("nosuchtoken1"), "refresh_token_not_found")


def anonymous():
    supabase = client()
    equal(supabase.auth.sign_in_anonymously().user.is_anonymous, True)
    equal(supabase.auth.update_user({"email": email(), "password": PASSWORD}).user.is_anonymous, False)


def update():
    supabase, _, _ = signed_up()
    equal(supabase.auth.update_user({"data": {"age": 5}}).user.user_metadata["age"], 5)
    fails(lambda: supabase.auth.update_user({"password": PASSWORD}), "same_password")


def admin():
    administrator = client(os.environ["SERVICE_ROLE_KEY"]).auth.admin
    address = email()
    user = administrator.create_user({"email": address, "password": PASSWORD, "email_confirm": True}).user
    equal(administrator.get_user_by_id(user.id).user.email, address)
    assert user.id in [listed.id for listed in administrator.list_users()]
    equal(administrator.update_user_by_id(user.id, {"user_metadata": {"a": 1}}).user.user_metadata["a"], 1)
    administrator.delete_user(user.id)
    fails(lambda: administrator.get_user_by_id(user.id), "user_not_found")
    fails(lambda: client().auth.admin.list_users(), "not_admin")


run([sign_up_and_act, sign_in, refresh, anonymous, update, admin])
